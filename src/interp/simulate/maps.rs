//! Index maps of a schedule, prepared once: most are copies of long runs.

use std::sync::Arc;

use crate::graph::NONE;

/// Average length of a run from which runs are faster than single elements.
const LONG: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Run {
    to: usize,
    from: usize,
    len: usize,
}

/// Element i is element map[i] of a source, or nothing.
pub enum Map {
    Runs(Vec<Run>),
    Indices(Arc<[u32]>),
}

impl Map {
    pub fn new(map: &Arc<[u32]>) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        for (to, &from) in map.iter().enumerate().filter(|(_, from)| **from != NONE) {
            let from = from as usize;
            match runs.last_mut() {
                Some(run) if run.to + run.len == to && run.from + run.len == from => run.len += 1,
                _ => runs.push(Run { to, from, len: 1 }),
            }
            if runs.len() * LONG > map.len() + LONG {
                return Self::Indices(Arc::clone(map));
            }
        }
        Self::Runs(runs)
    }

    /// Calls `f` with each element of `out` that has one in `from`.
    #[inline]
    pub fn each<A, B: Copy>(&self, out: &mut [A], from: &[B], f: impl Fn(&mut A, B)) {
        match self {
            Self::Runs(runs) => {
                for run in runs {
                    let out = &mut out[run.to..][..run.len];
                    out.iter_mut().zip(&from[run.from..][..run.len]).for_each(|(own, &value)| f(own, value));
                }
            }
            Self::Indices(map) => {
                for (own, &at) in out.iter_mut().zip(map.iter()) {
                    if at != NONE {
                        f(own, from[at as usize]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_are_what_the_map_says(
            parts in prop::collection::vec((0u32..40, 1usize..30, any::<bool>()), 0..12)
        ) {
            let map: Arc<[u32]> = parts
                .iter()
                .flat_map(|&(from, len, some)| (from..from + len as u32).map(move |i| if some { i } else { NONE }))
                .collect();
            let source: Vec<u32> = (0..70).map(|i| 1000 + i).collect();
            let mut out = vec![0; map.len()];
            Map::new(&map).each(&mut out, &source, |own, value| *own += value);
            let expected: Vec<u32> = map.iter().map(|&i| if i == NONE { 0 } else { 1000 + i }).collect();
            prop_assert_eq!(out, expected);
        }
    }

    #[test]
    fn a_padded_image_is_copied_row_by_row() {
        let map: Arc<[u32]> =
            (0..28u32 * 32).map(|i| if i % 32 < 28 { i / 32 * 28 + i % 32 } else { NONE }).collect();
        assert!(matches!(Map::new(&map), Map::Runs(runs) if runs.len() == 28));
        let every_other: Arc<[u32]> = (0..100).map(|i| 2 * i).collect();
        assert!(matches!(Map::new(&every_other), Map::Indices(_)));
    }
}
