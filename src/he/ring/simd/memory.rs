//! Large pages for what is streamed: keys, diagonals, polynomials of many limbs.

/// Size of a large page.
#[cfg(target_os = "linux")]
const PAGE: usize = 1 << 21;

/// Asks the operating system to back this memory by large pages; best before it is first written. A key product reads a key once, from
/// memory, and walks the page tables for each small page of it: large ones save a quarter of its time (in a virtual machine, measured). Only
/// advice: nothing changes where the system does not follow it, or has none.
pub fn advise_huge_pages<T>(x: &mut [T]) {
    #[cfg(target_os = "linux")]
    {
        let bytes = size_of_val(x);
        let skip = x.as_ptr().cast::<u8>().align_offset(PAGE);
        let inside = bytes.saturating_sub(skip) / PAGE * PAGE;
        if inside > 0 {
            let start = x.as_mut_ptr().cast::<u8>().wrapping_add(skip);
            // SAFETY: the range lies inside the slice, which is borrowed mutably; this advice changes no contents and no rights. Its
            // result does not matter.
            unsafe { libc::madvise(start.cast(), inside, libc::MADV_HUGEPAGE) };
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = x;
}

/// Zeroed bytes on large pages, for keys and diagonals.
pub fn zeroed_bytes(len: usize) -> Vec<u8> {
    // the allocator's zero pages are not there yet, so the advice is in time
    let mut v = vec![0; len];
    advise_huge_pages(&mut v);
    v
}
