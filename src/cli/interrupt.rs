//! Ctrl-C: the first asks the run to stop, the second stops at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit status after Ctrl-C.
pub const STATUS: u8 = 130;

/// Catches Ctrl-C from now on; the flag tells whether it was pressed.
pub fn watch() -> Result<Arc<AtomicBool>, ctrlc::Error> {
    let pressed = Arc::new(AtomicBool::new(false));
    let flag = pressed.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(STATUS.into());
        }
    })?;
    Ok(pressed)
}
