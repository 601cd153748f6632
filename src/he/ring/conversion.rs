//! Exact centred conversion of RNS residues from one basis to another prime, and division by the product of some primes.

use super::{
    arith::{invmod, mulmod},
    buffer::Buffer,
    context::{Limb, RnsContext},
    parallel,
    simd::{self, TERMS},
};

/// From the product S of some primes s_j to any prime: with y_j = x·(S/s_j)^-1 mod s_j,
/// x ≡ Σ_j y_j·(S/s_j) − v·S with v = round(Σ_j y_j/s_j), the representative in [−S/2, S/2].
///
/// The floating-point sum (Halevi, Polyakov, Shoup, CT-RSA 2019) errs only within 2^-45 of a tie, where the neighbour is as good. Being
/// centred, the conversion has no bias.
pub struct BaseConversion {
    /// Indices of the source primes in the context.
    pub from: Vec<usize>,
    /// (S/s_j)^-1·N^-1 mod s_j, Montgomery form: N^-1 is what the inverse transform leaves out.
    pub y: Vec<u64>,
    /// The same for an input with a factor 1/R.
    pub y_t: Vec<u64>,
    /// `y` and `y_t` in plain form, for [`RnsContext::inv_scaled`].
    pub scale: Vec<[u64; 2]>,
    /// 1/s_j.
    pub inv: Vec<f64>,
    /// Per target prime: S/s_j for each j, then −S; Montgomery form.
    pub c: Vec<Vec<u64>>,
    /// Per target prime: S^-1, Montgomery form; 0 where the target is a source.
    pub sinv: Vec<u64>,
}

/// Words of v that one job rounds.
const ROUND_CHUNK: usize = 8192;

impl BaseConversion {
    /// From the primes `from` of a basis to all of them, in degree n.
    pub fn new(n: usize, limbs: &[Limb], from: Vec<usize>) -> BaseConversion {
        // the product of the source primes without j, modulo prime t
        let product = |without: Option<usize>, t: usize| -> u64 {
            let q = limbs[t].p;
            from.iter().filter(|&&x| Some(x) != without).fold(1, |a, &x| mulmod(a, limbs[x].p % q, q))
        };
        let one = |&j: &usize| {
            let p = limbs[j].p;
            let y = mulmod(invmod(product(Some(j), j), p), invmod(n as u64, p), p);
            [y, limbs[j].mont(y)]
        };
        let scale: Vec<[u64; 2]> = from.iter().map(one).collect();
        let mont = |k: usize| from.iter().zip(&scale).map(|(&j, y)| limbs[j].mont(y[k])).collect();
        let targets = || limbs.iter().enumerate();
        BaseConversion {
            y: mont(0),
            y_t: mont(1),
            inv: from.iter().map(|&j| 1.0 / limbs[j].p as f64).collect(),
            c: targets()
                .map(|(t, m)| {
                    let factors = from.iter().map(|&j| m.mont(product(Some(j), t)));
                    factors.chain([m.mont((m.p - product(None, t)) % m.p)]).collect()
                })
                .collect(),
            sinv: targets()
                .map(|(t, m)| if from.contains(&t) { 0 } else { m.mont(invmod(product(None, t), m.p)) })
                .collect(),
            scale,
            from,
        }
    }
}

/// What is to be converted: the conversion, whether the input has a factor 1/R, and the limb (in the transform domain) of each source prime.
pub(super) struct Source<'a> {
    pub conversion: &'a BaseConversion,
    pub tainted: bool,
    pub limbs: Vec<&'a [u64]>,
}

impl RnsContext {
    /// (y, v) of a conversion, in coefficients: y_j limb after limb. `get` gives the limbs of the source primes, in the transform domain.
    pub fn conv_prep<'a>(
        &self,
        cv: &'a BaseConversion,
        tainted: bool,
        get: impl Fn(usize) -> &'a [u64],
    ) -> (Buffer, Buffer) {
        let limbs = cv.from.iter().map(|&j| get(j)).collect();
        self.prepare(vec![Source { conversion: cv, tainted, limbs }]).swap_remove(0)
    }

    /// (y, v) of several conversions, the limbs of all as one list of jobs.
    pub(super) fn prepare(&self, sources: Vec<Source>) -> Vec<(Buffer, Buffer)> {
        let n = self.n;
        let mut out: Vec<(Buffer, Buffer)> =
            sources.iter().map(|s| (Buffer::new(n * s.conversion.from.len()), Buffer::new(n))).collect();
        let mut jobs = vec![];
        for (s, (y, _)) in sources.iter().zip(&mut out) {
            for (t, (x, y)) in s.limbs.iter().zip(y.chunks_exact_mut(n)).enumerate() {
                jobs.push((s, t, *x, y));
            }
        }
        parallel::run(jobs, |(s, t, x, y)| {
            let cv = s.conversion;
            self.inv_scaled(cv.from[t], x, cv.scale[t][usize::from(s.tainted)], y);
        });
        self.round(sources.iter().map(|s| s.conversion).zip(&mut out));
        out
    }

    /// v of conversions whose y is there.
    pub(super) fn round<'a>(&self, of: impl Iterator<Item = (&'a BaseConversion, &'a mut (Buffer, Buffer))>) {
        let n = self.n;
        let mut jobs = vec![];
        for (conversion, (y, v)) in of {
            for (c, v) in v.chunks_mut(ROUND_CHUNK).enumerate() {
                jobs.push((conversion, &**y, c * ROUND_CHUNK, v));
            }
        }
        parallel::run(jobs, |(cv, y, at, v)| {
            let mut parts = [&[][..]; TERMS];
            for (part, y) in parts.iter_mut().zip(y.chunks_exact(n)) {
                *part = &y[at..at + v.len()];
            }
            simd::round_with(self.isa, &parts[..cv.from.len()], &cv.inv, v);
        });
    }

    /// Limb `i` of a prepared conversion, in the transform domain.
    pub fn conv_limb(&self, cv: &BaseConversion, ys: &[u64], v: &[u64], i: usize, out: &mut [u64]) {
        self.conv_coefficients(cv, ys, v, i, out);
        self.fwd(i, out);
    }

    /// (a − z)/S for limb `i`, z the prepared conversion of a modulo S: the end of a division by S. `tmp` is scratch.
    #[allow(clippy::too_many_arguments)]
    pub fn conv_divided(
        &self,
        cv: &BaseConversion,
        ys: &[u64],
        v: &[u64],
        i: usize,
        a: &[u64],
        tmp: &mut [u64],
        out: &mut [u64],
    ) {
        self.conv_coefficients(cv, ys, v, i, tmp);
        let m = &self.m[i];
        m.transform.forward_subtracted(tmp, a, cv.sinv[i], m.md, out);
    }

    /// Limb `i` of a prepared conversion, in coefficients.
    fn conv_coefficients(&self, cv: &BaseConversion, ys: &[u64], v: &[u64], i: usize, out: &mut [u64]) {
        let mut limbs = [&[][..]; TERMS];
        for (limb, y) in limbs.iter_mut().zip(ys.chunks_exact(self.n)) {
            *limb = y;
        }
        simd::bconv(&limbs[..cv.from.len()], v, &cv.c[i], self.m[i].md, out);
    }
}
