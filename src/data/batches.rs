//! The order in which samples are used. Shuffling hides nothing: it is a public permutation, so a seed may rule it.

/// A permutation of `0..count` that depends on the seed alone, on every machine (Fisher and Yates on SplitMix64).
pub fn permutation(count: usize, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    let mut state = seed;
    for i in (1..count).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        // The high half of a product is uniform to within 2^-32 here.
        let j = ((u128::from(z) * (i as u128 + 1)) >> 64) as usize;
        order.swap(i, j);
    }
    order
}

/// Batches of one size. The client shuffles once, before it encrypts; later epochs permute whole batches, whose
/// ciphertexts are already there.
#[derive(Clone, Debug)]
pub struct Batches {
    order: Vec<u32>,
    size: usize,
    seed: u64,
}

impl Batches {
    /// All samples in one batch, in their order.
    pub fn all(samples: usize) -> Self {
        Self { order: (0..samples as u32).collect(), size: samples, seed: 0 }
    }

    /// Shuffled batches of `size` samples. What does not fill a batch is left out; `None` if nothing fills one.
    pub fn shuffled(samples: usize, size: usize, seed: u64) -> Option<Self> {
        (size > 0 && size <= samples).then(|| Self { order: permutation(samples, seed), size, seed })
    }

    /// Batches of an epoch.
    pub fn count(&self) -> usize {
        self.order.len().checked_div(self.size).unwrap_or(0)
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// Rows of a batch, below [`Batches::count`].
    pub fn rows(&self, batch: usize) -> &[u32] {
        &self.order[batch * self.size..(batch + 1) * self.size]
    }

    /// The order in which an epoch (from 0) uses the batches.
    pub fn epoch(&self, epoch: usize) -> Vec<u32> {
        if epoch == 0 {
            return (0..self.count() as u32).collect();
        }
        permutation(self.count(), self.seed ^ (epoch as u64).wrapping_mul(0xd1b5_4a32_d192_ed03))
    }
}
