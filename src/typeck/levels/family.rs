//! The two engines, as far as types know them.

use std::fmt;

use crate::graph::{Graph, Op, Scheme};

/// Schemes that one engine computes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// Products on `bfv`, functions on `tfhe`.
    #[default]
    Tfhe,
    /// Both on `ckks`.
    Ckks,
}

impl Family {
    /// The family of an encrypted scheme.
    pub(super) fn of(scheme: Scheme) -> Option<Self> {
        match scheme {
            Scheme::Clear => None,
            Scheme::Bfv | Scheme::Tfhe => Some(Self::Tfhe),
            Scheme::Ckks => Some(Self::Ckks),
        }
    }

    pub fn other(self) -> Self {
        match self {
            Self::Tfhe => Self::Ckks,
            Self::Ckks => Self::Tfhe,
        }
    }

    /// What products are made on.
    pub(super) fn ring(self) -> Scheme {
        match self {
            Self::Tfhe => Scheme::Bfv,
            Self::Ckks => Scheme::Ckks,
        }
    }

    /// The families whose schemes are written in the types of a graph.
    pub fn written(graph: &Graph) -> Vec<Self> {
        let mut written: Vec<Self> = graph
            .ids()
            .filter_map(|id| match &graph.node(id).op {
                Op::Ascribe(written) => written.scheme.and_then(Self::of),
                _ => None,
            })
            .collect();
        written.sort_unstable_by_key(|family| *family as u8);
        written.dedup();
        written
    }
}

impl fmt::Display for Family {
    /// As `--scheme` has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tfhe => "tfhe",
            Self::Ckks => "ckks",
        })
    }
}
