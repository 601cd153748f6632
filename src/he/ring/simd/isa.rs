//! Which instructions the kernels use.

use std::sync::OnceLock;

use crate::he::ring::RingError;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Portable,
}

/// An instruction set that this processor has: a value of this type is the proof that it was detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Kind);

/// Names of all instruction sets, fastest first.
const NAMES: &str = "avx512, avx2, portable";
/// The variable of the environment that chooses.
const VARIABLE: &str = "HESN_ISA";

impl Isa {
    /// Plain Rust, for any processor.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    /// All that this processor has, fastest first.
    pub fn available() -> Vec<Isa> {
        let mut v = vec![];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512ifma")
                && is_x86_feature_detected!("avx512vbmi")
            {
                v.push(Isa(Kind::Avx512));
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                v.push(Isa(Kind::Avx2));
            }
        }
        v.push(Isa::PORTABLE);
        v
    }

    /// The fastest that this processor has.
    pub fn best() -> Isa {
        Isa::available()[0]
    }

    /// The one with this name (`avx512`, `avx2`, `portable`).
    ///
    /// # Errors
    /// For other names, and for instructions that this processor does not have.
    pub fn from_name(name: &str) -> Result<Isa, RingError> {
        let available = Isa::available();
        available.iter().copied().find(|x| x.name() == name).ok_or_else(|| {
            let here = available.iter().map(|x| x.name()).collect::<Vec<_>>().join(", ");
            if NAMES.split(", ").any(|x| x == name) {
                RingError::IsaMissing { name: name.to_owned(), available: here }
            } else {
                RingError::IsaUnknown { name: name.to_owned(), valid: NAMES, available: here }
            }
        })
    }

    /// The one that the variable `HESN_ISA` names; the fastest if it is not set or empty.
    ///
    /// # Errors
    /// As [`Isa::from_name`].
    pub fn from_env() -> Result<Isa, RingError> {
        match std::env::var_os(VARIABLE) {
            None => Ok(Isa::best()),
            Some(name) if name.is_empty() => Ok(Isa::best()),
            Some(name) => Isa::from_name(&name.to_string_lossy()),
        }
    }

    /// The one of [`Isa::from_env`], looked up once; the fastest where that is refused, as every [`super::super::context::RnsContext`] then
    /// says.
    pub fn usual() -> Isa {
        static USUAL: OnceLock<Isa> = OnceLock::new();
        *USUAL.get_or_init(|| Isa::from_env().unwrap_or_else(|_| Isa::best()))
    }

    /// Its name, as `HESN_ISA` takes it.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            Kind::Portable => "portable",
        }
    }

    pub(super) fn kind(self) -> Kind {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for isa in Isa::available() {
            assert_eq!(Isa::from_name(isa.name()).unwrap(), isa);
        }
        assert_eq!(Isa::available().last(), Some(&Isa::PORTABLE));
    }

    #[test]
    fn an_unknown_name_is_refused_with_the_valid_ones() {
        let e = Isa::from_name("avx1024").unwrap_err().to_string();
        assert!(e.contains("avx1024") && e.contains("portable") && e.contains("HESN_ISA"), "{e}");
    }
}
