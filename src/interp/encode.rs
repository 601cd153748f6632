//! Between numbers and the integer coefficients of polynomials: what the client encrypts and what it reads back.

use crate::graph::elements;
use crate::plan::gather::Wire;
use crate::plan::layout::Layout;
use crate::plan::lower::AtomKind;
use crate::plan::parameters::Parameters;
use crate::plan::schedule::{Master, Operand, Output, Read, Schedule};

use super::{Batch, mapped};

/// A value modulo t or q0·q1, next to zero.
pub fn centred(schedule: &Schedule, value: i64) -> i64 {
    match schedule.parameters {
        Parameters::Tfhe(profile) => {
            let shift = 64 - profile.ring.plaintext_bits;
            (value << shift) >> shift
        }
        Parameters::Ckks(profile) => {
            // Odd, below 2^62.
            let modulus = (profile.primes[0] * profile.primes[1]).cast_signed();
            let value = value.rem_euclid(modulus);
            if value > modulus / 2 { value - modulus } else { value }
        }
    }
}

/// What is public in an element of an operand, in units: constants and the initial weights. The server adds it,
/// except where the client encrypts the operand.
pub fn public_part(schedule: &Schedule, operand: &Operand, initial: &[Vec<f32>], element: usize) -> i64 {
    let mut value = operand.form.constant.get(element);
    for term in &operand.form.terms {
        if let AtomKind::Weight { param, .. } = schedule.atoms[term.atom.0 as usize].kind
            && let Some(master) = schedule.masters.iter().position(|m| m.param == param)
            && let Some(index) = mapped(&term.map, element)
        {
            value += term.coefficient * f64::from(initial[master][index]);
        }
    }
    (value * operand.amplitude).round() as i64
}

/// The integers of the part of an operand that the client encrypts in its layout, `[samples, elements]`: of atoms that are on
/// no wire of their own.
pub fn fresh_part(schedule: &Schedule, operand: &Operand, batch: &Batch<'_>) -> Vec<i64> {
    let is_wired = |atom: usize| schedule.ring.as_ref().is_some_and(|ring| ring.gather.wire(atom).is_some());
    let own: Vec<_> = operand.form.terms.iter().filter(|term| !is_wired(term.atom.0 as usize)).collect();
    let samples = if operand.per_sample { batch.size } else { 1 };
    let size = operand.form.elements();
    let mut out = Vec::with_capacity(samples * size);
    for sample in 0..samples {
        for element in 0..size {
            let mut value = 0.0;
            for term in &own {
                let Some(index) = mapped(&term.map, element) else { continue };
                let units = operand.amplitude * term.coefficient;
                match schedule.atoms[term.atom.0 as usize].kind {
                    AtomKind::Fresh(node) => value += units * batch.fresh(node, sample, index),
                    kind @ AtomKind::Label(_) if schedule.parameters.is_fresh(kind) => {
                        value += units * f64::from(batch.label(sample, index));
                    }
                    _ => {}
                }
            }
            out.push(centred(schedule, value.round() as i64));
        }
    }
    out
}

/// The rings of what the client sends on a wire, N integers each.
pub fn wire_rings(schedule: &Schedule, wire: &Wire, batch: &Batch<'_>) -> Vec<Vec<i64>> {
    let degree = schedule.degree();
    let atom = &schedule.atoms[wire.atom];
    let size = elements(&atom.shape).max(1);
    let mut rings = vec![vec![0i64; degree]; wire.lanes.rings];
    for (at, &lane) in wire.lanes.at.iter().enumerate() {
        let (sample, index) = (at / size, at % size);
        let value = match atom.kind {
            AtomKind::Fresh(node) => batch.fresh(node, sample, index),
            _ => f64::from(batch.label(sample, index)),
        };
        let lane = lane as usize;
        rings[lane / degree][lane % degree] = centred(schedule, (value * wire.amplitude).round() as i64);
    }
    rings
}

/// The polynomials, N coefficients each, of values `[samples, elements]` in a layout.
pub fn polynomials(degree: usize, layout: &Layout, values: &[i64], per_sample: bool) -> Vec<Vec<i64>> {
    let size = layout.elements().max(1);
    let samples = if per_sample { values.len() / size } else { 1 };
    let mut out = vec![vec![0i64; degree]; layout.polynomials(samples)];
    for sample in 0..samples {
        for element in 0..layout.elements() {
            let at = layout.position(degree, sample, element);
            out[at.polynomial][at.coefficient] += at.sign * values[sample * size + element];
        }
    }
    out
}

/// The polynomials of what is public in every sample of an operand; none if there is nothing.
pub fn public_polynomials(
    schedule: &Schedule,
    operand: &Operand,
    public: &[i64],
    samples: usize,
) -> Vec<Vec<i64>> {
    if public.iter().all(|&v| v == 0) {
        return Vec::new();
    }
    polynomials(schedule.degree(), &operand.layout, &public.repeat(samples), true)
}

/// The values `[samples, elements]` at their places in decrypted polynomials.
pub fn read_back(degree: usize, layout: &Layout, polynomials: &[Vec<i64>], samples: usize) -> Vec<i64> {
    let mut out = Vec::with_capacity(samples * layout.elements());
    for sample in 0..samples {
        for element in 0..layout.elements() {
            let at = layout.position(degree, sample, element);
            out.push(at.sign * polynomials[at.polynomial][at.coefficient]);
        }
    }
    out
}

/// The weights of a master: the public initial ones and what its integers have learned.
pub fn weights(master: &Master, learned: &[i64], initial: &[f32]) -> Vec<f32> {
    learned.iter().zip(initial).map(|(&v, &w)| (v as f64 / master.amplitude) as f32 + w).collect()
}

/// The value of an output whose reads hold these integers.
pub fn output<E>(
    schedule: &Schedule,
    output: &Output,
    mut integers: impl FnMut(&Read) -> Result<Vec<i64>, E>,
) -> Result<Vec<f32>, E> {
    let mut sums = vec![0i64; elements(&output.shape)];
    for read in &output.reads {
        let values = integers(read)?;
        for (element, sum) in sums.iter_mut().enumerate() {
            if let Some(index) = mapped(&read.map, element) {
                *sum = centred(schedule, *sum + values[index]);
            }
        }
    }
    let value = |(i, &v): (usize, &i64)| (v as f64 / output.amplitude + output.constant.get(i)) as f32;
    Ok(sums.iter().enumerate().map(value).collect())
}

/// Fractions of the torus of a batch's labels, sample after sample, at the schedule's amplitude; none where they are part
/// of operands.
pub fn labels(schedule: &Schedule, batch: &Batch<'_>) -> Vec<f64> {
    let size = schedule
        .atoms
        .iter()
        .find(|atom| matches!(atom.kind, AtomKind::Label(_)) && !schedule.parameters.is_fresh(atom.kind))
        .map_or(0, |atom| elements(&atom.shape));
    let unit = schedule.label_amplitude / schedule.modulus();
    (0..batch.size)
        .flat_map(|sample| (0..size).map(move |index| f64::from(batch.label(sample, index)) * unit))
        .collect()
}
