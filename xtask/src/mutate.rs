//! Breaks a copy of the project in many careless ways, one at a time, and shows that the tests notice each.
//!
//! The copy is in `target/mutants`, with build products of its own: those of the checkout are never those of a broken program,
//! and no file of the checkout is touched.

#![expect(
    clippy::disallowed_methods,
    reason = "it waits for cargo and says how long that took"
)]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::mutations::{MUTATIONS, Mutation, Tests};
use crate::{Failure, checkout, target_folder};

/// A test that runs longer has met a change that makes it go on for ever.
const LONGEST_TEST: Duration = Duration::from_mins(15);

/// What the tests said of a change.
enum Answer {
    /// These tests failed.
    Caught(Vec<String>),
    /// They did not end.
    Hung,
    /// They passed.
    Survived,
}

/// Makes every change whose sentence contains `only`, and tells which are not noticed.
pub(crate) fn mutate(only: &str) -> Result<(), Failure> {
    let copy = Copy::make()?;
    let chosen: Vec<_> = MUTATIONS
        .iter()
        .filter(|mutation| mutation.change.contains(only))
        .collect();
    eprintln!("{} changes; first the tests without any", chosen.len());
    copy.must_pass(&chosen)?;
    let mut survived = 0;
    println!("| careless change | caught by | seconds |\n|---|---|---|");
    for mutation in &chosen {
        let began = Instant::now();
        let answer = copy.with(mutation)?;
        let said = match answer {
            Answer::Caught(tests) => tests.join(", "),
            Answer::Hung => "a test that no longer ends".to_owned(),
            Answer::Survived => {
                survived += 1;
                "**nothing**".to_owned()
            }
        };
        println!(
            "| {} | {said} | {} |",
            mutation.change,
            began.elapsed().as_secs()
        );
    }
    if survived > 0 {
        return Err(format!("{survived} of {} changes are not noticed", chosen.len()).into());
    }
    eprintln!("all {} are noticed", chosen.len());
    Ok(())
}

/// The copy of the project.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
}

impl Copy {
    fn make() -> Result<Self, Failure> {
        let folder = target_folder().join("mutants");
        let copy = Self {
            tree: folder.join("tree"),
            target: folder.join("target"),
        };
        if !copy.target.exists() {
            copy.take_dependencies()?;
        }
        let listed = Command::new("git")
            .args([
                "ls-files",
                "-z",
                "--cached",
                "--others",
                "--exclude-standard",
            ])
            .current_dir(checkout())
            .output()
            .map_err(|error| format!("cannot run git: {error}"))?;
        let files: BTreeSet<PathBuf> = listed
            .stdout
            .split(|byte| *byte == 0)
            .filter_map(|name| std::str::from_utf8(name).ok())
            .filter(|name| checkout().join(name).is_file())
            .map(PathBuf::from)
            .collect();
        if files.is_empty() {
            return Err("git names no files; this needs a checkout"
                .to_owned()
                .into());
        }
        for file in &files {
            copy.restore(file)?;
        }
        for stale in below(&copy.tree, Path::new(""))? {
            if !files.contains(&stale) {
                drop(fs::remove_file(copy.tree.join(stale)));
            }
        }
        Ok(copy)
    }

    /// Takes what cargo has compiled of others' crates, so that it is not compiled again.
    fn take_dependencies(&self) -> Result<(), Failure> {
        let ours = |name: &OsStr| {
            let name = name.to_string_lossy().replace('-', "_");
            let name = name.trim_start_matches("lib").to_owned();
            members().iter().any(|member| {
                name.strip_prefix(&member.replace('-', "_"))
                    .is_some_and(|rest| {
                        rest.starts_with('_')
                            && rest[1..].starts_with(|digit: char| digit.is_ascii_hexdigit())
                    })
            })
        };
        for folder in ["deps", ".fingerprint", "build"] {
            let (from, to) = (
                target_folder().join("debug").join(folder),
                self.target.join("debug").join(folder),
            );
            fs::create_dir_all(&to).map_err(at(&to))?;
            let Ok(entries) = from.read_dir() else {
                continue; // nothing was built yet
            };
            let names: Vec<_> = entries
                .filter_map(|entry| Some(entry.ok()?.file_name()))
                .filter(|name| !ours(name))
                .map(|name| from.join(name))
                .collect();
            for some in names.chunks(200) {
                let copied = Command::new("cp").arg("-Rp").args(some).arg(&to).status();
                if !copied.is_ok_and(|status| status.success()) {
                    return Err(format!("cannot copy from {}", from.display()).into());
                }
            }
        }
        Ok(())
    }

    /// Makes a file of the copy the same as in the checkout; one that is the same keeps its time, so that cargo sees no change.
    fn restore(&self, file: &Path) -> Result<(), Failure> {
        let (from, to) = (checkout().join(file), self.tree.join(file));
        let text = fs::read(&from).map_err(at(&from))?;
        if fs::read(&to).is_ok_and(|had| had == text) {
            return Ok(());
        }
        let folder = to.parent().expect("a file of the copy is in a folder");
        fs::create_dir_all(folder).map_err(at(folder))?;
        fs::write(&to, text).map_err(at(&to))?;
        Ok(())
    }

    /// Without a change every test must pass, or it would notice nothing.
    fn must_pass(&self, mutations: &[&Mutation]) -> Result<(), Failure> {
        let mut calls: Vec<Call> = Vec::new();
        let tests: BTreeSet<_> = mutations
            .iter()
            .map(|mutation| mutation.caught_by)
            .collect();
        for one in tests.into_iter().map(Call::of) {
            match calls
                .iter_mut()
                .find(|call| call.arguments == one.arguments)
            {
                Some(call) => call.filters.extend(one.filters),
                None => calls.push(one),
            }
        }
        calls
            .iter()
            .try_for_each(|call| self.passes("the tests without a change", call))
    }

    fn passes(&self, what: &str, command: &Call) -> Result<(), Failure> {
        match self.run(command)? {
            Answer::Survived => Ok(()),
            Answer::Hung => Err(format!("{what} do not end").into()),
            Answer::Caught(tests) => Err(format!("{what}: {} failed", tests.join(", ")).into()),
        }
    }

    /// What the tests say of a change.
    fn with(&self, mutation: &Mutation) -> Result<Answer, Failure> {
        let path = self.tree.join(mutation.file);
        let text = fs::read_to_string(&path).map_err(at(&path))?;
        let changed = mutation.applied(&text)?;
        fs::write(&path, changed).map_err(at(&path))?;
        let answer = self.run(&Call::of(mutation.caught_by));
        self.restore(Path::new(mutation.file))?;
        answer.map_err(|failure| match failure {
            Failure::Sentence(sentence) => format!("{}: {sentence}", mutation.change).into(),
            program @ Failure::Program(_) => program,
        })
    }

    /// Builds and runs the tests.
    fn run(&self, command: &Call) -> Result<Answer, Failure> {
        let mut build = command.arguments.clone();
        build.push("--no-run".to_owned());
        let built = self
            .cargo(&build)
            .output()
            .map_err(|error| format!("cannot run cargo: {error}"))?;
        if !built.status.success() {
            let said = String::from_utf8_lossy(&built.stderr).into_owned();
            return Err(format!("it does not compile, and so shows nothing:\n{said}").into());
        }
        let mut run = command.arguments.clone();
        run.push("--".to_owned());
        run.extend(command.filters.iter().cloned());
        run.extend(["--skip", "end_to_end"].map(str::to_owned)); // real time, and a cloud of its own
        run.extend(["--skip", "stacks::"].map(str::to_owned)); // needs programs that the copy does not have
        let log = self.target.join("tests.log");
        let file = fs::File::create(&log).map_err(at(&log))?;
        let mut child = self
            .cargo(&run)
            .stdout(file)
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot run cargo: {error}"))?;
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child
                .try_wait()
                .map_err(|error| format!("cannot wait for cargo: {error}"))?
            {
                break status;
            }
            if began.elapsed() > LONGEST_TEST {
                let group = format!("-{}", child.id());
                drop(Command::new("kill").args(["-9", "--", &group]).status());
                drop(child.wait());
                return Ok(Answer::Hung);
            }
            sleep(Duration::from_millis(100));
        };
        let said = fs::read_to_string(&log).map_err(at(&log))?;
        let tests = said
            .lines()
            .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        let failed: BTreeSet<_> = tests.map(name).collect();
        let ran = said
            .lines()
            .any(|line| line.starts_with("test result: ") && !line.contains(" 0 passed; 0 failed"));
        match (status.success(), ran, failed.is_empty()) {
            (_, false, _) => Err("no test has such a name".to_owned().into()),
            (true, true, _) => Ok(Answer::Survived),
            (false, true, false) => Ok(Answer::Caught(failed.into_iter().collect())),
            (false, true, true) => Err(format!("the tests broke off:\n{said}").into()),
        }
    }

    fn cargo(&self, arguments: &[String]) -> Command {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(arguments)
            .current_dir(&self.tree)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("CARGO_PROFILE_DEV_DEBUG", "false") // it is linked often and debugged never
            .env("CARGO_TERM_COLOR", "never");
        command
    }
}

/// A call of `cargo test`.
struct Call {
    arguments: Vec<String>,
    filters: Vec<String>,
}

impl Call {
    fn of(tests: Tests) -> Self {
        let (arguments, filter) = match tests {
            Tests::Serin(filter) => (["--workspace", "--test", "serin"], Some(filter)),
            Tests::Package(package) => (["--lib", "--package", package], None),
        };
        Self {
            arguments: ["test"]
                .into_iter()
                .chain(arguments)
                .map(str::to_owned)
                .collect(),
            filters: filter.into_iter().map(str::to_owned).collect(),
        }
    }
}

impl Mutation {
    /// The text with the change.
    fn applied(&self, text: &str) -> Result<String, String> {
        match text.matches(self.text).count() {
            1 => Ok(text.replacen(self.text, self.replacement, 1)),
            count => Err(format!(
                "{}: the text to change is {count} times in {}:\n{}",
                self.change, self.file, self.text
            )),
        }
    }
}

/// A test's name without its modules and cases: the sentence, which is longer than they are.
fn name(path: &str) -> String {
    let name = path.split("::").max_by_key(|part| part.len());
    name.unwrap_or(path).to_owned()
}

/// The names of our packages.
fn members() -> Vec<String> {
    let manifest = fs::read_to_string(checkout().join("Cargo.toml")).unwrap_or_default();
    let listed = manifest.split("members = [").nth(1).unwrap_or_default();
    let listed = listed.split("\n]").next().unwrap_or_default();
    let folders = listed.split('"').skip(1).step_by(2);
    let names = folders.map(|folder| folder.rsplit('/').next().unwrap_or(folder).to_owned());
    names
        .chain([
            "serin-tests".to_owned(),
            "serin-driver".to_owned(),
            "sample-service".to_owned(),
        ])
        .collect()
}

/// The files below a folder, but none of a build.
fn below(root: &Path, folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for entry in fs::read_dir(root.join(folder)).map_err(at(root))? {
        let entry = entry.map_err(at(root))?;
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            files.extend(below(root, &path)?);
        } else {
            files.push(path);
        }
    }
    Ok(files)
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| format!("{}: {error}", path.display()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_every_careless_change_is_there_exactly_once() {
        let wrong: Vec<_> = MUTATIONS
            .iter()
            .filter_map(|mutation| {
                let text = fs::read_to_string(checkout().join(mutation.file))
                    .map_err(|error| format!("{}: {error}", mutation.file));
                text.and_then(|text| mutation.applied(&text)).err()
            })
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    }

    #[test]
    fn no_change_is_named_twice_and_each_changes_something() {
        let names: BTreeSet<_> = MUTATIONS.iter().map(|mutation| mutation.change).collect();
        assert_eq!(names.len(), MUTATIONS.len());
        assert!(
            MUTATIONS
                .iter()
                .all(|mutation| mutation.text != mutation.replacement)
        );
    }

    #[test]
    fn a_test_is_named_without_its_cases() {
        let path = "simulation::seeds::found::a_thing_that_holds_is_not_broken::on_1_On__AppMesh::mode_1___promote__";
        assert_eq!(name(path), "a_thing_that_holds_is_not_broken");
        assert_eq!(name("tests::a_thing_holds"), "a_thing_holds");
    }
}
