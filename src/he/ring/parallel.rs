//! Independent jobs on rayon's current pool; in place where it has one thread.

use std::sync::OnceLock;

use rayon::prelude::*;

/// Runs `f` on every job.
pub fn run<T: Send>(jobs: Vec<T>, f: impl Fn(T) + Sync + Send) {
    if rayon::current_num_threads() > 1 {
        jobs.into_par_iter().with_max_len(1).for_each(f);
    } else {
        jobs.into_iter().for_each(f);
    }
}

/// What a cell holds, made if it is empty. Nothing is locked meanwhile: a thread that waits for a part of `make` may begin
/// another job, which asks for the same cell. What is made twice is kept once.
pub fn once<T>(cell: &OnceLock<T>, make: impl FnOnce() -> T) -> &T {
    match cell.get() {
        Some(made) => made,
        None => {
            let made = make();
            cell.get_or_init(|| made)
        }
    }
}

/// Runs both.
pub fn join<A: Send, B: Send>(a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    if rayon::current_num_threads() > 1 { rayon::join(a, b) } else { (a(), b()) }
}
