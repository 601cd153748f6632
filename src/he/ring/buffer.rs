//! Pooled buffers of residues, aligned to cache lines: no allocation and no page faults in the steady state.
//!
//! The pool keeps what is dropped, as it is: **secret polynomials do not belong in a [`Buffer`]**; their storage is wiped and freed by its owner.

use std::{
    cell::Cell,
    collections::HashMap,
    ops::{Deref, DerefMut},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use super::simd::advise_huge_pages;

/// Words of a cache line.
const LINE: usize = 8;
/// Bytes that the pool keeps at most, unless told otherwise: more than a functional bootstrap has in flight.
const DEFAULT_LIMIT: usize = 1 << 30;
/// Parts of the pool. Each thread has one of its own, as far as they go, so threads do not wait for each other.
const SHARDS: usize = 16;

/// Free storage by length in words.
type Shard = HashMap<usize, Vec<Vec<u64>>>;

struct Pool {
    shards: [Mutex<Option<Shard>>; SHARDS],
    /// Bytes kept in all shards.
    kept: AtomicUsize,
    limit: AtomicUsize,
}

static POOL: Pool = Pool::new(DEFAULT_LIMIT);

/// Threads that have asked for a shard so far.
static THREADS: AtomicUsize = AtomicUsize::new(0);
thread_local! {
    /// The shard of this thread.
    static SHARD: Cell<usize> = Cell::new(THREADS.fetch_add(1, Relaxed) % SHARDS);
}

impl Pool {
    const fn new(limit: usize) -> Pool {
        Pool {
            shards: [const { Mutex::new(None) }; SHARDS],
            kept: AtomicUsize::new(0),
            limit: AtomicUsize::new(limit),
        }
    }

    fn shard(&self, i: usize) -> MutexGuard<'_, Option<Shard>> {
        // a shard is consistent after any panic: nothing between its changes can fail
        self.shards[i].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Storage of this length, from the thread's own shard or else from another that is not in use.
    fn take(&self, len: usize) -> Option<Vec<u64>> {
        let own = SHARD.try_with(Cell::get).unwrap_or(0);
        let pop = |shard: &mut Option<Shard>| shard.as_mut()?.get_mut(&len)?.pop();
        let mut found = pop(&mut self.shard(own));
        if found.is_none() && self.kept.load(Relaxed) >= 8 * len {
            let others = (1..SHARDS).map(|k| &self.shards[(own + k) % SHARDS]);
            found = others.into_iter().find_map(|x| pop(&mut *x.try_lock().ok()?));
        }
        let found = found?;
        self.kept.fetch_sub(8 * len, Relaxed);
        Some(found)
    }

    fn give(&self, v: Vec<u64>) {
        let bytes = 8 * v.len();
        if self.kept.fetch_add(bytes, Relaxed) + bytes > self.limit.load(Relaxed) {
            self.kept.fetch_sub(bytes, Relaxed);
            return;
        }
        let own = SHARD.try_with(Cell::get).unwrap_or(0);
        self.shard(own).get_or_insert_with(HashMap::new).entry(v.len()).or_default().push(v);
    }

    fn release(&self) {
        for i in 0..SHARDS {
            let freed = self.shard(i).take();
            let bytes: usize = freed.iter().flatten().map(|(len, v)| 8 * len * v.len()).sum();
            self.kept.fetch_sub(bytes, Relaxed);
        }
    }
}

/// Gives all free storage back to the operating system.
pub fn release_pool() {
    POOL.release();
}

/// Bytes of free storage that the pool keeps at most, from now on.
pub fn set_pool_limit(bytes: usize) {
    POOL.limit.store(bytes, Relaxed);
}

/// Raises what the pool keeps to so many bytes, if it is less.
pub fn keep_at_least(bytes: usize) {
    POOL.limit.fetch_max(bytes, Relaxed);
}

/// Bytes of free storage in the pool.
pub fn pooled_bytes() -> usize {
    POOL.kept.load(Relaxed)
}

/// Storage of polynomials, limb after limb, aligned to 64 bytes.
pub struct Buffer {
    /// One line longer than needed.
    v: Vec<u64>,
    /// Where the aligned part starts.
    start: usize,
    len: usize,
}

impl Buffer {
    /// Of this length in words. What it contains is unspecified (often old data), but never uninitialised.
    pub fn new(words: usize) -> Buffer {
        let total = words + LINE - 1;
        let v = POOL.take(total).unwrap_or_else(|| {
            let mut v = vec![0; total];
            advise_huge_pages(&mut v);
            v
        });
        let start = v.as_ptr().align_offset(8 * LINE).min(LINE - 1);
        Buffer { v, start, len: words }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        POOL.give(std::mem::take(&mut self.v));
    }
}
impl Deref for Buffer {
    type Target = [u64];
    fn deref(&self) -> &[u64] {
        &self.v[self.start..self.start + self.len]
    }
}
impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u64] {
        &mut self.v[self.start..self.start + self.len]
    }
}
impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        let mut b = Buffer::new(self.len);
        b.copy_from_slice(self);
        b
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_of_the_length_asked_for() {
        for words in [0, 8, 1000, 4096, 1 << 16] {
            let b = Buffer::new(words);
            assert_eq!(b.len(), words);
            assert_eq!(b.as_ptr().align_offset(64), 0);
        }
    }

    #[test]
    fn the_pool_gives_back_what_it_got_up_to_its_limit() {
        let pool = Pool::new(1000);
        let v = vec![1; 100];
        let at = v.as_ptr();
        pool.give(v);
        pool.give(vec![2; 50]); // beyond the limit
        assert_eq!(pool.kept.load(Relaxed), 800);
        assert!(pool.take(50).is_none());
        assert_eq!(pool.take(100).map(|v| v.as_ptr()), Some(at));
        assert!(pool.take(100).is_none());
        assert_eq!(pool.kept.load(Relaxed), 0);
    }

    #[test]
    fn a_thread_finds_what_another_one_dropped_and_release_empties_all() {
        let pool = Pool::new(1 << 20);
        std::thread::scope(|s| {
            for len in [10, 20, 30] {
                let pool = &pool;
                s.spawn(move || pool.give(vec![0; len]));
            }
        });
        assert_eq!(pool.take(20).map(|v| v.len()), Some(20));
        pool.release();
        assert_eq!(pool.kept.load(Relaxed), 0);
        assert!(pool.take(10).is_none() && pool.take(30).is_none());
    }

    #[test]
    fn a_clone_has_its_own_storage() {
        let mut a = Buffer::new(64);
        a.fill(7);
        let b = a.clone();
        a.fill(8);
        assert!(b.iter().all(|&x| x == 7));
    }
}
