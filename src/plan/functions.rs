//! The tables of a schedule as the ring engine evaluates them: trigonometric polynomials of the torus.
//!
//! In: tables with their ranges and amplitudes. Out: for each table the polynomial of its outputs, and the one by which
//! it multiplies those of other sites; and the least row of parameters that carries all of them.

use crate::diagnostics::Diagnostic;
use crate::he::ckks::fit::{DEGREES, Fit, TrigPolynomial, fit_degree};
use crate::he::ckks::noise;
use crate::he::ckks::params::{RING_PROFILES, RingProfile};

use super::parameters::longest_route_units;
use super::schedule::{Schedule, SiteStep, Table};

/// Standard deviation of a fit's error, as a fraction of the largest output, at which a degree is enough.
pub const WANTED_ERROR: f64 = 1.0 / 1024.0;
/// |f| of an output where it uses the whole scale.
const OUTPUT_LIMIT: f64 = 0.25;

/// A table as the ring engine evaluates it.
#[derive(Clone, Debug)]
pub struct RingFunction {
    /// Outputs in units of [`RingProfile::output_scale`], the table's centre included. At a site with a multiplier they
    /// are still to be multiplied by the values of that one's `factor`. None where nothing but products of slots use it.
    pub output: Option<TrigPolynomial>,
    /// What it multiplies other sites' outputs by, at most 1. None where it multiplies nothing.
    pub factor: Option<TrigPolynomial>,
    /// Standard deviation of the fit's error as a fraction of the largest output; the worse of the two.
    pub fit_error: f64,
    /// Standard deviation of the error that the bootstrap and the way to the operands add to its outputs, beyond that of
    /// what it read, in units.
    pub output_noise: f64,
    /// Standard deviation of the error of its output ciphertexts where no values stand, in units, before they are routed.
    pub hidden_noise: f64,
}

impl RingFunction {
    /// The larger degree of its polynomials.
    pub fn degree(&self) -> usize {
        let degree =
            |polynomial: &Option<TrigPolynomial>| polynomial.as_ref().map_or(0, TrigPolynomial::degree);
        degree(&self.output).max(degree(&self.factor))
    }
}

/// The functions of all tables, by site and table, on the schedule's row.
///
/// # Errors
/// A table that has no polynomial; a schedule of another scheme.
pub fn ring_functions(schedule: &Schedule) -> Result<Vec<Vec<RingFunction>>, Diagnostic> {
    let Some(profile) = schedule.parameters.ckks() else {
        let message = format!("parameters `{}` have no functions of rings", schedule.parameters.name());
        return Err(Diagnostic::error("E0502", message).help("choose `--scheme ckks`"));
    };
    on_row(schedule, profile)
}

fn on_row(schedule: &Schedule, profile: &RingProfile) -> Result<Vec<Vec<RingFunction>>, Diagnostic> {
    let empty =
        RingFunction { output: None, factor: None, fit_error: 0.0, output_noise: 0.0, hidden_noise: 0.0 };
    let mut functions: Vec<Vec<RingFunction>> =
        schedule.sites.iter().map(|site| vec![empty.clone(); site.tables.len()]).collect();
    for (site, table) in schedule.sites.iter().filter_map(|site| site.multiplier) {
        let (step, function) = (&schedule.sites[site], &mut functions[site][table]);
        let own = &step.tables[table];
        let largest = whole_largest(own, step.range);
        let fit = fitted(own, step.range, largest, own.centre, profile.factor_degree())?;
        function.fit_error = fit.error / OUTPUT_LIMIT;
        function.factor = Some(fit.polynomial.scale(1.0 / OUTPUT_LIMIT));
    }
    for (index, site) in schedule.sites.iter().enumerate() {
        let factor = site.multiplier.and_then(|(site, table)| {
            let own = &schedule.sites[site];
            Some((whole_largest(&own.tables[table], own.range), functions[site][table].factor.clone()?))
        });
        for (table, function) in site.tables.iter().zip(&mut functions[index]) {
            // Without an amplitude nothing but products of slots use it.
            if table.amplitude != 0.0 {
                add_output(profile, site, table, factor.as_ref(), function)?;
                let samples = if site.per_sample { schedule.batch } else { 1 };
                let fill = (samples * site.elements) as f64 / schedule.parameters.lanes() as f64;
                if let Some(output) = &function.output {
                    function.hidden_noise =
                        noise::hidden_error(profile, output.degree(), output.spread(), fill.min(1.0));
                }
            }
        }
    }
    Ok(functions)
}

/// The outputs of a table, which may still be multiplied by a factor with this largest value.
fn add_output(
    profile: &RingProfile,
    site: &SiteStep,
    table: &Table,
    factor: Option<&(f64, TrigPolynomial)>,
    function: &mut RingFunction,
) -> Result<(), Diagnostic> {
    let most = if factor.is_some() { profile.factor_degree() } else { profile.function_degree };
    let largest = table.largest(site.range);
    let fit = fitted(table, site.range, largest, 0.0, most)?;
    // Fitted with outputs up to 1/4, without the centre, which is its mean.
    let scale = table.amplitude * factor.map_or(1.0, |(largest, _)| *largest) / profile.output_scale();
    let mut output = fit.polynomial.scale(scale * largest / OUTPUT_LIMIT);
    if let Some(mean) = output.coefficients.first_mut() {
        mean.re += table.centre * scale;
    }
    function.fit_error = function.fit_error.max(fit.error / OUTPUT_LIMIT);
    let size = |polynomial: &TrigPolynomial| polynomial.mean().hypot(polynomial.spread());
    let bootstrap = match factor {
        None => noise::output_error(profile, output.degree(), output.spread()),
        Some((_, factor)) => {
            let degrees = [factor.degree(), output.degree()];
            noise::product_error(profile, degrees, [size(factor), size(&output)])
        }
    };
    function.output_noise = bootstrap.hypot(longest_route_units(profile));
    function.output = Some(output);
    Ok(())
}

/// Standard deviation of the error of a table's outputs at `ratio` times its amplitude: a part of it is the same at every
/// amplitude.
pub fn output_noise_at(profile: &RingProfile, function: &RingFunction, ratio: f64) -> f64 {
    let degree = function.output.as_ref().map_or(0, TrigPolynomial::degree);
    let constant = noise::output_error(profile, degree, 0.0).hypot(longest_route_units(profile));
    let constant = constant.min(function.output_noise);
    let growing = function.output_noise.powi(2) - constant.powi(2);
    (constant.powi(2) + ratio.powi(2) * growing).sqrt()
}

/// The largest magnitude of a table with its centre.
fn whole_largest(table: &Table, range: f64) -> f64 {
    Table { centre: 0.0, ..table.clone() }.largest(range)
}

/// The fit of the least degree up to `most` that is good enough, of the table's values and `added`, scaled to at most 1/4.
fn fitted(table: &Table, range: f64, largest: f64, added: f64, most: usize) -> Result<Fit, Diagnostic> {
    let scale = if largest > 0.0 { OUTPUT_LIMIT / largest } else { 0.0 };
    let value = |t: f64| (table.value(4.0 * t * range) + added) * scale;
    let wanted = WANTED_ERROR * OUTPUT_LIMIT;
    let mut degrees: Vec<usize> = DEGREES.iter().copied().filter(|&degree| degree < most).collect();
    degrees.push(most);
    let mut best = None;
    for degree in degrees {
        let fit = fit_degree(&value, degree, wanted).map_err(|error| {
            Diagnostic::error(
                "E0502",
                format!("`{}` cannot be evaluated on encrypted values: {error}", table.name),
            )
            .help(
                "restrict its range, as `in -8..8` after its type, or write a function that is defined there",
            )
        })?;
        let enough = fit.sufficient;
        best = Some(fit);
        if enough {
            break;
        }
    }
    best.ok_or_else(|| {
        Diagnostic::error("E0502", format!("`{}` has no degree to be fitted with", table.name))
    })
}

/// The least row that carries the functions of a schedule, which were fitted for the largest.
pub fn least_row(
    schedule: &Schedule,
    functions: &[Vec<RingFunction>],
    largest: &'static RingProfile,
) -> &'static RingProfile {
    let carries = |row: &RingProfile| {
        functions.iter().zip(&schedule.sites).all(|(functions, site)| {
            functions.iter().all(|function| {
                let output = function.output.as_ref().map_or(0, TrigPolynomial::degree);
                let factor = function.factor.as_ref().map_or(0, TrigPolynomial::degree);
                let most = if site.multiplier.is_some() { row.factor_degree() } else { row.function_degree };
                output <= most && factor <= row.factor_degree()
            })
        })
    };
    RING_PROFILES.iter().find(|row| carries(row)).unwrap_or(largest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Function, ScalarExpr};

    fn sigmoid(steepness: f64) -> ScalarExpr {
        let half = |z: ScalarExpr| z.mul(ScalarExpr::Const(0.5));
        let inner = ScalarExpr::Z.mul(ScalarExpr::Const(steepness / 2.0));
        half(ScalarExpr::call(Function::Tanh, inner).add(ScalarExpr::Const(1.0)))
    }

    fn degree(expr: &ScalarExpr, range: f64, most: usize) -> (usize, f64) {
        let table = Table::new("f", expr, range);
        let fit = fitted(&table, range, table.largest(range), 0.0, most).unwrap();
        (fit.polynomial.degree(), fit.error / OUTPUT_LIMIT)
    }

    #[test]
    fn the_degree_follows_from_how_sharp_a_function_is() {
        assert_eq!(degree(&ScalarExpr::Z, 2.0, 63).0, 15);
        assert_eq!(degree(&sigmoid(1.0), 8.0, 63).0, 15);
        assert_eq!(degree(&sigmoid(1.0), 16.0, 63).0, 31);
        // The same function of the torus: only steepness times range counts.
        assert_eq!(degree(&sigmoid(2.0), 8.0, 63), degree(&sigmoid(1.0), 16.0, 63));
        let relu = ScalarExpr::Z.mul(ScalarExpr::call(Function::Step, ScalarExpr::Z));
        let (kink, error) = degree(&relu, 8.0, 63);
        assert!(kink == 63 && error < WANTED_ERROR, "{kink}: {error}");
        // Where no degree is enough the largest is taken.
        assert_eq!(degree(&ScalarExpr::call(Function::Step, ScalarExpr::Z), 8.0, 31).0, 31);
    }
}
