//! Pooled, aligned buffers of residues: no allocation in steady state.
use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

// ---- 64-byte aligned pooled buffers: no allocation, no page faults in steady state -------------------
#[derive(Clone, Copy)]
#[repr(align(64))]
struct A64(#[allow(dead_code)] [u64; 8]);
static POOL: Mutex<Vec<(usize, Vec<A64>)>> = Mutex::new(Vec::new());
/// Polynomial storage (limb-major).  Contents after `new` are unspecified (stale data), never uninitialised.
pub struct Buffer {
    v: Vec<A64>,
}
impl Buffer {
    pub fn new(words: usize) -> Buffer {
        let len = words / 8;
        let mut g = POOL.lock().unwrap();
        if let Some(i) = g.iter().rposition(|x| x.0 == len) {
            return Buffer { v: g.swap_remove(i).1 };
        }
        drop(g);
        Buffer { v: vec![A64([0; 8]); len] }
    }
}
impl Drop for Buffer {
    fn drop(&mut self) {
        let v = std::mem::take(&mut self.v);
        POOL.lock().unwrap().push((v.len(), v));
    }
}
impl Deref for Buffer {
    type Target = [u64];
    fn deref(&self) -> &[u64] {
        unsafe { std::slice::from_raw_parts(self.v.as_ptr() as *const u64, self.v.len() * 8) }
    }
}
impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u64] {
        unsafe { std::slice::from_raw_parts_mut(self.v.as_mut_ptr() as *mut u64, self.v.len() * 8) }
    }
}
impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        let mut b = Buffer::new(self.len());
        b.copy_from_slice(self);
        b
    }
}
