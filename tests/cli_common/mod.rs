//! A folder with a program and its data, and the command that runs there.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The command under test.
pub const BINARY: &str = env!("CARGO_BIN_EXE_hesn");

/// Trains on `d.csv`.
pub const PROGRAM: &str = "\
use std::{dense, binary_cross_entropy}

data d = csv(\"d.csv\") { label: y, scale: standard, split: 0.7 }

model M(x: [2]) -> [1] {
    x |> dense(1)
}

train M on d {
    loss: binary_cross_entropy
    sgd: rate 0.5
    batch: all
    epochs: 2
}
";

/// Twelve points, above and below a line.
pub fn numbers() -> String {
    let mut text = String::from("a,b,y\n");
    for i in 0..12 {
        let side = i % 2;
        let a = f64::from(i) / 4.0 - 1.5;
        text += &format!("{a},{},{side}\n", a * 0.5 + f64::from(side) * 2.0 - 1.0);
    }
    text
}

/// A folder of its own.
pub struct Workplace {
    folder: tempfile::TempDir,
}

/// How a command ended.
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    /// Standard output of a command that succeeded.
    pub fn succeeds(&self) -> String {
        assert_eq!(self.status, Some(0), "{}{}", self.stdout, self.stderr);
        self.stdout.clone()
    }

    /// Both outputs, for a snapshot.
    pub fn all(&self) -> String {
        format!("{}{}", self.stdout, self.stderr)
    }
}

impl Workplace {
    pub fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// With `p.hes` and `d.csv`.
    pub fn with_program(program: impl AsRef<str>) -> Self {
        let place = Self::empty();
        place.write("p.hes", program.as_ref());
        place.write("d.csv", numbers());
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args).current_dir(self.folder.path()).env_remove("NO_COLOR").env("COLUMNS", "100");
        command
    }

    pub fn hesn(&self, args: &[&str]) -> Ended {
        let output = self.command(args).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended { status: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}
