//! The data plane's own record of what it did: lines in a file, since the terminal belongs to the demo's screen.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

/// A file of dated lines.
#[derive(Debug)]
pub(crate) struct Journal {
    file: Mutex<File>,
}

impl Journal {
    /// Creates the file, empty.
    pub(crate) fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self {
            file: Mutex::new(File::create(path)?),
        })
    }

    /// Adds a line. A journal that cannot be written is not worth stopping the world for.
    pub(crate) fn note(&self, line: impl AsRef<str>) {
        if let Ok(mut file) = self.file.lock() {
            let _ = writeln!(file, "{} {}", jiff::Timestamp::now(), line.as_ref());
        }
    }
}
