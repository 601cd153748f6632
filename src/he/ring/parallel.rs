//! Independent jobs on rayon's current pool; in place where it has one thread.

use rayon::prelude::*;

/// Runs `f` on every job.
pub fn run<T: Send>(jobs: Vec<T>, f: impl Fn(T) + Sync + Send) {
    if rayon::current_num_threads() > 1 {
        jobs.into_par_iter().with_max_len(1).for_each(f);
    } else {
        jobs.into_iter().for_each(f);
    }
}

/// Runs both.
pub fn join<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    if rayon::current_num_threads() > 1 { rayon::join(a, b) } else { (a(), b()) }
}
