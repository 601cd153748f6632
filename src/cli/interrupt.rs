//! Ctrl-C: the first asks the run to stop, the second stops at once.

use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Exit status after Ctrl-C.
pub const STATUS: u8 = 130;

/// Catches Ctrl-C from now on; the flag tells whether it was pressed.
pub fn watch() -> Result<Arc<AtomicBool>, ctrlc::Error> {
    let pressed = Arc::new(AtomicBool::new(false));
    let flag = pressed.clone();
    ctrlc::set_handler(move || {
        if flag.load(Ordering::Relaxed) {
            std::process::exit(STATUS.into());
        }
        // Before the run says that it has stopped. Nobody may be there to read it.
        let _ = writeln!(io::stderr(), "\nstopping after what is being computed; Ctrl-C again stops at once");
        flag.store(true, Ordering::Relaxed);
    })?;
    Ok(pressed)
}
