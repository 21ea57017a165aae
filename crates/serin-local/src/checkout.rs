//! Where things are in the checkout: the installed programs, the built binaries, the state machine, a place to run.

use std::path::{Path, PathBuf};

/// The folders of the checkout from which this binary was built.
#[derive(Debug, Clone)]
pub struct Checkout {
    root: PathBuf,
    binaries: PathBuf,
}

impl Checkout {
    /// The checkout from which this binary, or this test, was built.
    pub fn of_this_build() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .ancestors()
            .nth(2)
            .unwrap_or(Path::new("."))
            .to_owned();
        Self {
            binaries: binaries().unwrap_or_else(|| root.join("target/debug")),
            root,
        }
    }

    /// The checkout itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of the binaries that were built together with this one.
    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// A program that `cargo xtask` installed.
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join(".local/venv/bin").join(name)
    }

    /// The definition of a state machine, such as `canary-deployment`.
    pub fn state_machine(&self, name: &str) -> PathBuf {
        self.root.join(format!("statemachine/{name}.asl.json"))
    }

    /// Where the committed requests of the scenarios are.
    pub fn scenarios(&self) -> PathBuf {
        self.root.join("crates/serin-local/scenarios")
    }

    /// Where running clouds keep their logs.
    pub fn runs(&self) -> PathBuf {
        self.root.join(".local/run")
    }

    /// The file in which a cloud that was started by `cargo xtask local` says where it is.
    pub fn running_cloud(&self) -> PathBuf {
        self.root.join(".local/cloud.json")
    }
}

/// The folder of this program; a test's program lies in the folder `deps` beside the binaries.
fn binaries() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    match folder.file_name()?.to_str()? {
        "deps" => folder.parent().map(Path::to_owned),
        _ => Some(folder.to_owned()),
    }
}
