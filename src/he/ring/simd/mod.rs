//! The kernels on limbs, with AVX-512 IFMA, AVX2 and portable code, chosen at run time. All give the same residues, bit for
//! bit, so keys and ciphertexts travel between machines.
//!
//! Every prime is below 2^48 and residues lie in [0, p). A product of two residues is below 2^96; up to [`TERMS`] of them are
//! added lazily before one Montgomery reduction with R = 2^52, which returns sum/R mod p in [0, p): the sum stays below p·R.
//! Constants, keys and plaintexts are stored multiplied by R, so that x·(cR)/R = x·c. Products of two ciphertexts keep a factor
//! 1/R ("tainted"), which the constants of the relinearisation remove for nothing.
//!
//! This is the only module of the crate with `unsafe` code, for three reasons: vector loads and stores, which go through
//! references to arrays of the vector's size (`&[u64; 8]`) or checked slices, so that no length can be wrong; calls of functions
//! compiled for instructions that not every processor has, made only with an [`Isa`], which says that they were detected; and advice to the
//! operating system about memory.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod isa;
mod memory;
mod portable;
pub(super) mod transform;

use self::isa::Kind;
pub use self::{
    isa::Isa,
    memory::{advise_huge_pages, zeroed_bytes},
};
use super::arith::inverse_mod_2_52;

/// Products that may be added before one reduction.
pub const TERMS: usize = 16;
/// Residues that are processed together: aligned groups of eight stay together in every layout.
const GROUP: usize = 8;
/// Bytes of padding behind packed residues of `w` bytes, so that whole vectors can be loaded to the last.
const fn padding(w: usize) -> usize {
    64 - GROUP * w
}

/// A prime below 2^48 with what its reductions need, and the instructions that its kernels use.
#[derive(Clone, Copy, Debug)]
pub struct Modulus {
    /// The prime.
    pub p: u64,
    /// p^-1 mod 2^52.
    pub pinv: u64,
    isa: Isa,
}

impl Modulus {
    /// For an odd prime below 2^48.
    pub fn new(p: u64, isa: Isa) -> Modulus {
        Modulus { p, pinv: inverse_mod_2_52(p), isa }
    }

    /// The instructions that the kernels use.
    pub fn isa(&self) -> Isa {
        self.isa
    }
}

/// A Galois automorphism in the transform domain (bit-reversed order): aligned groups of eight residues map to aligned groups,
/// so it is one permutation in a register and one scattered store per group.
pub struct Perm {
    /// Source group → destination group.
    pub dst: Vec<u32>,
    /// Destination group → source group.
    pub src: Vec<u32>,
    /// Per source group, which of `tabs` permutes it.
    pub pi: Vec<u8>,
    /// Permutations inside a group: `out[t] = in[tab[t]]`.
    pub tabs: Vec<[u64; 8]>,
}

impl Perm {
    /// First source group of the chunk (of `g` groups) that lands in destination chunk `c`.
    pub fn src_chunk(&self, c: usize, g: usize) -> usize {
        self.src[c * g] as usize / g * g
    }
}

/// The inner product of digits with one limb of a switching key:
/// o0 = Σ_d dig_d·b_d + c0·a0, o1 = Σ_d dig_d·a_d + c1·a1, permuted, then stored or added.
pub struct Dot<'a> {
    /// The digits, whole limbs.
    pub digs: &'a [&'a [u64]],
    /// This limb of the key: per group of eight residues, per digit, (b, a): one sequential stream.
    pub key: &'a [u8],
    /// Digits in the key, at least as many as are used.
    pub kd: usize,
    /// A limb times a constant, added to o0.
    pub add0: Option<(&'a [u64], u64)>,
    /// The same for o1.
    pub add1: Option<(&'a [u64], u64)>,
    /// The automorphism that the results go through.
    pub perm: Option<&'a Perm>,
    /// Add to the outputs instead of storing.
    pub acc: bool,
    /// Source groups of eight to process.
    pub range: (usize, usize),
    /// The destination group that the first residue of the outputs stands for.
    pub base: usize,
}

/// One limb of both components of a ciphertext.
pub type Pair<'a> = [&'a [u64]; 2];

/// One sum of products: d = Σ x·y (as a tensor of three) + Σ x·c + constant on d0. A constant has two values, one for each half of the limb:
/// the monomial X^(N/2), which is i in every slot, has one value on each.
pub struct Sum<'a> {
    /// Products of two-component ciphertexts.
    pub prods: &'a [(Pair<'a>, Pair<'a>)],
    /// Ciphertexts times constants.
    pub lins: &'a [(Pair<'a>, [u64; 2])],
    /// Added to d0.
    pub cst: [u64; 2],
    /// Double the products.
    pub dbl: bool,
}

impl Sum<'_> {
    /// Terms of the fullest of the three sums; at most [`TERMS`].
    fn terms(&self) -> usize {
        self.prods.len() * if self.dbl { 4 } else { 2 } + self.lins.len()
    }
}

macro_rules! kernel {
    ($isa:expr, $f:ident($($arg:expr),* $(,)?)) => {
        match $isa.kind() {
            // SAFETY: an `Isa` of this kind is made only after the processor's instructions were detected.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { avx512::$f($($arg),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { avx2::$f($($arg),*) },
            Kind::Portable => portable::$f($($arg),*),
        }
    };
}

/// Packs residues into `w` bytes each (5 or 6) as vector `k` of `of` interleaved ones, eight residues at a time. Keys are read once per
/// use, from memory: fewer bytes are worth more than the instructions that unpack them.
pub fn pack(src: &[u64], w: usize, k: usize, of: usize, dst: &mut [u8]) {
    for (g, x) in src.chunks_exact(GROUP).enumerate() {
        for (t, x) in x.iter().enumerate() {
            let o = ((g * of + k) * GROUP + t) * w;
            dst[o..o + w].copy_from_slice(&x.to_le_bytes()[..w]);
        }
    }
}

/// The reverse of [`pack`].
pub fn unpack(src: &[u8], w: usize, k: usize, of: usize, dst: &mut [u64]) {
    for (g, x) in dst.chunks_exact_mut(GROUP).enumerate() {
        for (t, x) in x.iter_mut().enumerate() {
            let o = ((g * of + k) * GROUP + t) * w;
            let mut b = [0; 8];
            b[..w].copy_from_slice(&src[o..o + w]);
            *x = u64::from_le_bytes(b);
        }
    }
}

/// The inner product `a` with a key of `w` bytes per residue.
///
/// # Panics
/// Where lengths do not agree, or for widths other than 5 and 6.
pub fn dot(a: &Dot, w: usize, m: Modulus, o0: &mut [u64], o1: &mut [u64]) {
    assert!(!a.digs.is_empty() && a.digs.len() <= 8 && (w == 5 || w == 6));
    let n = a.digs[0].len();
    let groups = o0.len() / GROUP;
    // a permutation maps aligned chunks of a power of two to aligned chunks, checked here for this chunk
    assert!(
        o1.len() == o0.len()
            && a.range.0 < a.range.1
            && a.range.1 <= n / GROUP
            && o0.len() == GROUP * (a.range.1 - a.range.0)
            && o0.len().is_power_of_two()
    );
    assert!(a.perm.is_none_or(|p| p.dst[a.range.0] as usize / groups * groups == a.base));
    assert!(a.digs.iter().all(|x| x.len() == n) && a.kd >= a.digs.len());
    assert!(a.key.len() >= 2 * a.kd * n * w + padding(w));
    assert!(a.add0.is_none_or(|x| x.0.len() == n) && a.add1.is_none_or(|x| x.0.len() == n));
    assert!(a.perm.is_none_or(|x| x.dst.len() == n / GROUP && x.pi.len() == n / GROUP));
    assert!(a.perm.is_some() || a.base == a.range.0);
    kernel!(m.isa, dot(a, w, m, o0, o1))
}

/// o = Σ_b diag_b·r_b for pairs of limbs, at most [`TERMS`]; `dg` interleaves `nd` diagonals of `w` bytes per residue, and `r` names its own.
///
/// # Panics
/// Where lengths do not agree.
pub fn diag(
    dg: &[u8],
    nd: usize,
    r: &[(usize, &[u64], &[u64])],
    w: usize,
    m: Modulus,
    o0: &mut [u64],
    o1: &mut [u64],
) {
    let n = o0.len();
    assert!((w == 5 || w == 6) && nd <= TERMS && r.len() <= TERMS);
    assert!(o1.len() == n && n.is_multiple_of(GROUP) && dg.len() >= n * nd * w + padding(w));
    assert!(r.iter().all(|x| x.0 < nd && x.1.len() == n && x.2.len() == n));
    kernel!(m.isa, diag(dg, nd, r, w, m, o0, o1))
}

/// The sum `a` of products and multiples; `d2` may be empty where there are no products.
///
/// # Panics
/// Where lengths do not agree, or with too many terms.
pub fn sum(a: &Sum, m: Modulus, d0: &mut [u64], d1: &mut [u64], d2: &mut [u64]) {
    let n = d0.len();
    assert!(d1.len() == n && (a.prods.is_empty() || d2.len() == n) && n.is_multiple_of(2 * GROUP));
    assert!(a.terms() <= TERMS);
    assert!(a.prods.iter().all(|(x, y)| x.iter().chain(y).all(|s| s.len() == n)));
    assert!(a.lins.iter().all(|(x, _)| x.iter().all(|s| s.len() == n)));
    kernel!(m.isa, sum(a, m, d0, d1, d2))
}

/// o0 += x0·f/R and o1 += x1·f/R.
///
/// # Panics
/// Where lengths do not agree.
pub fn add_product(x: Pair<'_>, f: &[u64], m: Modulus, o0: &mut [u64], o1: &mut [u64]) {
    let n = f.len();
    assert!(x.iter().all(|x| x.len() == n) && o0.len() == n && o1.len() == n && n.is_multiple_of(GROUP));
    kernel!(m.isa, add_product(x, f, m, o0, o1))
}

/// o = x·c/R.
///
/// # Panics
/// Where lengths do not agree.
pub fn mulc(x: &[u64], c: u64, m: Modulus, o: &mut [u64]) {
    assert!(x.len() == o.len() && o.len().is_multiple_of(GROUP));
    kernel!(m.isa, mulc(x, c, m, o))
}

/// o = o·c/R.
///
/// # Panics
/// If the length is no multiple of eight.
pub fn mulc_in(o: &mut [u64], c: u64, m: Modulus) {
    assert!(o.len().is_multiple_of(GROUP));
    kernel!(m.isa, mulc_in(o, c, m))
}

/// v = round(Σ_j y_j·inv_j): the multiple of the source modulus to subtract, which makes the fast base conversion exact and centred.
/// Products are rounded before they are added, on every path alike, so that all agree also next to ties, where either side would do.
///
/// # Panics
/// Where lengths do not agree.
pub fn round_with(isa: Isa, ys: &[&[u64]], inv: &[f64], v: &mut [u64]) {
    assert!(v.len().is_multiple_of(GROUP) && ys.len() == inv.len() && ys.iter().all(|y| y.len() == v.len()));
    kernel!(isa, round(ys, inv, v))
}

/// [`round_with`] the instructions that this process uses unless told otherwise.
///
/// # Panics
/// Where lengths do not agree.
pub fn round(ys: &[&[u64]], inv: &[f64], v: &mut [u64]) {
    round_with(Isa::usual(), ys, inv, v);
}

/// o = (Σ_j y_j·c_j + v·c_A)/R mod p for the A limbs `ys`, which need not be below p but are below 2^48.
///
/// # Panics
/// Where lengths do not agree, or with too many limbs.
pub fn bconv(ys: &[&[u64]], v: &[u64], c: &[u64], m: Modulus, o: &mut [u64]) {
    assert!(o.len().is_multiple_of(GROUP) && ys.iter().all(|y| y.len() == o.len()) && v.len() == o.len());
    assert!(c.len() == ys.len() + 1 && c.len() <= TERMS);
    kernel!(m.isa, bconv(ys, v, c, m, o))
}

/// o = (a − t)·c/R.
///
/// # Panics
/// Where lengths do not agree.
pub fn subc(a: &[u64], t: &[u64], c: u64, m: Modulus, o: &mut [u64]) {
    assert!(o.len().is_multiple_of(GROUP) && a.len() == o.len() && t.len() == o.len());
    kernel!(m.isa, subc(a, t, c, m, o))
}
