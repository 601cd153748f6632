//! Encrypted batches that wait in a file where the memory is too small for them. What is written is what a server holds anyway:
//! ciphertexts, no secrets.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::interp::EngineError;

/// A file of records, which is gone when this is dropped.
pub struct Shelf {
    path: PathBuf,
    file: File,
    /// Where each record begins, and its length.
    records: Vec<(u64, usize)>,
    end: u64,
}

fn failed(doing: &str, path: &std::path::Path, error: &io::Error) -> EngineError {
    EngineError::Failed(format!(
        "{doing} {} failed: {error}; set TMPDIR to a folder with more room, or allow more with `--memory`",
        path.display()
    ))
}

impl Shelf {
    /// A new file in the system's folder for temporary files.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn new() -> Result<Self, EngineError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("hesn-{}-{count}.spill", std::process::id()));
            match OpenOptions::new().read(true).write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Self { path, file, records: Vec::new(), end: 0 }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("making the temporary file", &path, &error)),
            }
        }
    }

    /// Appends a record.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn put(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let written = self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(bytes));
        written.map_err(|error| failed("writing to", &self.path, &error))?;
        self.records.push((self.end, bytes.len()));
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Reads a record, by its number from 0; none if there is no such record.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn get(&mut self, index: usize) -> Result<Option<Vec<u8>>, EngineError> {
        let Some(&(start, length)) = self.records.get(index) else { return Ok(None) };
        let mut bytes = vec![0; length];
        let read = self.file.seek(SeekFrom::Start(start)).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(|error| failed("reading from", &self.path, &error))?;
        Ok(Some(bytes))
    }
}

impl Drop for Shelf {
    fn drop(&mut self) {
        // A file that cannot be removed is left to the system's own cleaning.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_and_the_file_goes() {
        let mut shelf = Shelf::new().unwrap();
        let path = shelf.path.clone();
        let records = [vec![1u8; 5], Vec::new(), (0..=255).collect()];
        records.iter().for_each(|record| shelf.put(record).unwrap());
        for index in [2, 0, 1] {
            assert_eq!(shelf.get(index).unwrap().as_ref(), Some(&records[index]));
        }
        assert_eq!(shelf.get(3).unwrap(), None);
        assert!(path.exists());
        drop(shelf);
        assert!(!path.exists());
    }
}
