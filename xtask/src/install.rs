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

/// What browsers are called that can look at the status page.
const BROWSERS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// The programs of the local cloud.
pub(crate) fn programs(checkout: &Path) -> Result<(), String> {
    let requirements = checkout.join("crates/serin-local/requirements.txt");
    let venv = checkout.join(".local/venv");
    environment(&requirements, &venv, "moto, cargo-lambda and Envoy")
}

/// Installs Chromium from the distribution where nothing is needed for that but to be root, as on a machine that is made anew for each
/// run of the tests. Elsewhere a person installs it; the test that needs it says so.
pub(crate) fn browser() -> Result<(), String> {
    let is_there = |program: &str| {
        let found = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        found.is_ok_and(|status| status.success())
    };
    let is_root = || {
        let user = Command::new("id").arg("-u").output();
        user.is_ok_and(|user| user.stdout == b"0\n")
    };
    let named = std::env::var_os("SERIN_BROWSER").is_some();
    if named || BROWSERS.into_iter().any(is_there) || !is_there("apt-get") || !is_root() {
        return Ok(());
    }
    eprintln!("Installing Chromium, with which the status page is looked at");
    run(Command::new("apt-get").args(["update", "--quiet=2"]))?;
    run(Command::new("apt-get")
        .args(["install", "--yes", "--quiet=2", "--no-install-recommends"])
        .args(["chromium", "fonts-dejavu-core"])
        .env("DEBIAN_FRONTEND", "noninteractive"))
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
