//! Installs the programs of the local cloud, pinned, into a folder of the checkout.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The Python programs that are tried, the one that was tested first.
const PYTHONS: [&str; 5] = [
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "python3",
];

/// The programs of the local cloud.
pub(crate) fn programs(checkout: &Path) -> Result<(), String> {
    let requirements = checkout.join("crates/serin-local/requirements.txt");
    let venv = checkout.join(".local/venv");
    environment(&requirements, &venv, "moto, cargo-lambda and Envoy")
}

/// What the judge's speed is measured beside; gives the Python that has it.
pub(crate) fn scipy(checkout: &Path) -> Result<PathBuf, String> {
    let requirements = checkout.join("crates/serin-judge/examples/benchmark/requirements.txt");
    let venv = checkout.join(".local/scipy");
    environment(&requirements, &venv, "scipy")?;
    Ok(venv.join("bin/python"))
}

/// The scanner of templates; gives its program. It has an environment of its own, because it wants other versions than moto.
pub(crate) fn checkov(checkout: &Path) -> Result<PathBuf, String> {
    let requirements = checkout.join("xtask/checkov/requirements.txt");
    let venv = checkout.join(".local/checkov");
    environment(&requirements, &venv, "checkov")?;
    Ok(venv.join("bin/checkov"))
}

/// Makes sure that the virtual environment holds exactly what the requirements say.
///
/// What is installed is remembered as a copy of the requirements, which is written last: an installation that was broken
/// off begins again.
fn environment(requirements: &Path, venv: &Path, what: &str) -> Result<(), String> {
    let installed = venv.join("installed-requirements.txt");
    let wanted = fs::read_to_string(requirements)
        .map_err(|error| format!("cannot read {}: {error}", requirements.display()))?;
    if fs::read_to_string(&installed).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let python = python()?;
    eprintln!("Installing {what} into {} (once)", venv.display());
    run(Command::new(python)
        .args(["-m", "venv", "--clear"])
        .arg(venv))?;
    run(Command::new(venv.join("bin/python"))
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(requirements))?;
    fs::write(&installed, wanted)
        .map_err(|error| format!("cannot write {}: {error}", installed.display()))
}

/// Finds a Python that is new enough and can make virtual environments.
fn python() -> Result<PathBuf, String> {
    const CHECK: &str = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";
    PYTHONS
        .iter()
        .find(|program| {
            Command::new(program)
                .args(["-c", CHECK])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        })
        .map(PathBuf::from)
        .ok_or_else(|| {
            format!(
                "the local cloud needs Python 3.11 or newer with its venv module; tried {}",
                PYTHONS.join(", ")
            )
        })
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} failed: {status}")),
        Err(error) => Err(format!("cannot run {command:?}: {error}")),
    }
}
