//! The project's commands: `cargo xtask demo | local | test | simulate | bench | mutate | lint | lint-templates | screenshots | schema`.
//!
//! They install what is needed, build everything and hand over. What they start lives in `serin-local`, so that this
//! program is built in no time.
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "it talks to a person"
)]

mod install;
mod mutate;
mod mutations;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use clap::{Parser, Subcommand};

/// The project's commands.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Deploy a good version and a bad one in a local cloud, and watch
    Demo {
        /// Run this scenario: good, bad, replace, crash-loop, no-data, second, stopped, killed, faulty or frozen; may be given several times
        #[arg(long)]
        scenario: Vec<String>,
        /// What sends the requests to the versions: alb (the default) or appMesh
        #[arg(long)]
        router: Option<String>,
        /// Write what came of it into a file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Keep a local cloud up, or deploy in the one that is up
    #[command(args_conflicts_with_subcommands = true)]
    Local {
        /// What sends the requests to the versions: alb (the default) or appMesh
        #[arg(long)]
        router: Option<String>,
        #[command(subcommand)]
        command: Option<Local>,
    },
    /// Run all tests; arguments go to `cargo test`
    #[command(disable_help_flag = true)]
    Test {
        /// Arguments for `cargo test`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Break a copy of the project in many careless ways, one at a time, and see that the tests notice each
    Mutate {
        /// Make only the changes whose sentence contains this
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Run random simulated deployments (--seeds N --from S --json FILE), replay one (--seed S), or run the exhaustive set (--exhaustive)
    #[command(disable_help_flag = true)]
    Simulate {
        /// Arguments for the simulation; --help lists them
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Measure how fast a bad version loses its traffic, and what a deployment costs; or what the judge is worth
    Bench {
        /// What to measure: deployments (the default) or judge
        #[arg(value_enum, default_value_t = Bench::Deployments)]
        what: Bench,
        /// Over how many random simulated deployments; 20000 by default. Not for the judge
        #[arg(long)]
        seeds: Option<u64>,
        /// Write the figures into a file. Not for the judge
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Check format and lints
    Lint,
    /// Look for faults in the templates: cfn-lint, and checkov's rules on security
    LintTemplates,
    /// Make the pictures in docs/ anew: of the state machine, and of the status page of simulated deployments, which needs Chromium
    Screenshots,
    /// Write request.schema.json and notice.schema.json anew, after a change of their types
    Schema,
}

/// What can be measured.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Bench {
    /// How fast a bad version loses its traffic in simulated deployments, and what a deployment costs
    Deployments,
    /// False alarms and delays of the judge's tests, beside simpler rules
    Judge,
}

#[derive(Subcommand)]
enum Local {
    /// Start a deployment in the running local cloud and follow it
    Deploy {
        /// The request, as JSON
        file: PathBuf,
    },
    /// Print the deployments in the running local cloud, and what happened in each
    History {
        /// Only those of this service, by its name or as cluster/service
        service: Option<String>,
    },
    /// Print what the checks of a deployment in the running local cloud found
    Evidence {
        /// The execution, by its ARN
        execution: String,
    },
}

impl Local {
    /// What serin-local is called with.
    fn arguments(self) -> Vec<OsString> {
        match self {
            Self::Deploy { file } => vec!["deploy".into(), file.into()],
            Self::Evidence { execution } => vec!["evidence".into(), execution.into()],
            Self::History { service } => std::iter::once("history".into())
                .chain(service.map(OsString::from))
                .collect(),
        }
    }
}

/// Why a command did not do what it should.
enum Failure {
    /// A sentence for the person.
    Sentence(String),
    /// A program failed and has said so itself.
    Program(u8),
}

impl From<String> for Failure {
    fn from(sentence: String) -> Self {
        Self::Sentence(sentence)
    }
}

fn main() -> ExitCode {
    match run(Xtask::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Sentence(sentence)) => {
            eprintln!("error: {sentence}");
            ExitCode::FAILURE
        }
        Err(Failure::Program(code)) => ExitCode::from(code),
    }
}

fn run(task: Task) -> Result<(), Failure> {
    match task {
        Task::Demo {
            scenario,
            router,
            json,
        } => {
            let mut arguments = vec![OsString::from("demo")];
            for scenario in scenario {
                arguments.extend(["--scenario".into(), scenario.into()]);
            }
            if let Some(router) = router {
                arguments.extend(["--router".into(), router.into()]);
            }
            if let Some(json) = json {
                arguments.extend(["--json".into(), json.into()]);
            }
            prepare("--bins")?;
            hand_over(&arguments)
        }
        Task::Local {
            router,
            command: None,
        } => {
            let mut arguments = vec![OsString::from("local")];
            if let Some(router) = router {
                arguments.extend(["--router".into(), router.into()]);
            }
            prepare("--bins")?;
            hand_over(&arguments)
        }
        Task::Local {
            command: Some(command),
            ..
        } => {
            prepare("--bins")?;
            hand_over(&command.arguments())
        }
        Task::Screenshots => {
            cargo(&["build", "--workspace", "--bin", "screenshots"], &[], &[])?;
            become_program("debug/screenshots", &[checkout().join("docs").into()])
        }
        Task::Test { arguments } => {
            install::browser()?;
            // With the tests' own dependencies from the start: they add features, and the SDK would compile a second time.
            prepare("--all-targets")?;
            if arguments.is_empty() {
                every_test()
            } else {
                cargo(&["test", "--workspace"], &arguments, &[])
            }
        }
        Task::Mutate { only } => mutate::mutate(&only),
        Task::Simulate { arguments } => simulate(&arguments),
        Task::Bench {
            what: Bench::Judge,
            seeds: None,
            json: None,
        } => bench_judge(),
        Task::Bench {
            what: Bench::Judge, ..
        } => Err(Failure::Sentence(
            "--seeds and --json mean nothing to bench judge: its seeds are fixed, and it prints tables".into(),
        )),
        Task::Bench {
            what: Bench::Deployments,
            seeds,
            json,
        } => {
            let seeds = seeds.unwrap_or(20_000).to_string();
            let mut arguments = vec!["--bench".into(), "--seeds".into(), seeds.into()];
            if let Some(json) = json {
                arguments.extend(["--json".into(), json.into()]);
            }
            simulate(&arguments)
        }
        Task::Schema => cargo(
            &[
                "test",
                "--quiet",
                "--package",
                "serin",
                "--lib",
                "the_committed",
            ],
            &[],
            &[("SERIN_WRITE_SCHEMA", "1")],
        ),
        Task::LintTemplates => lint_templates(),
        Task::Lint => lint(),
    }
}

/// Installs the programs of the local cloud and builds every binary that runs in it. The whole workspace is built at
/// once: built one by one, the packages would ask for different features of the AWS SDK and compile it again and again.
fn prepare(targets: &str) -> Result<(), Failure> {
    install::programs(&checkout())?;
    cargo(&["build", "--workspace", targets], &[], &[])
}

/// Builds what runs simulated deployments, optimised, and becomes it.
fn simulate(arguments: &[OsString]) -> Result<(), Failure> {
    let build = [
        "build",
        "--workspace",
        "--bin",
        "simulate",
        "--profile",
        "simulation",
    ];
    cargo(&build, &[], &[])?;
    become_program("simulation/simulate", arguments)
}

/// Measures the judge, its speed beside scipy's.
fn bench_judge() -> Result<(), Failure> {
    let python = install::scipy(&checkout())?;
    let run = [
        "run",
        "--release",
        "--package",
        "serin-judge",
        "--example",
        "benchmark",
    ];
    let python = python.display().to_string();
    cargo(&run, &[], &[("SERIN_SCIPY_PYTHON", &python)])
}

/// Checks format and lints.
fn lint() -> Result<(), Failure> {
    cargo(&["fmt", "--all", "--check"], &[], &[])?;
    let clippy = ["clippy", "--workspace", "--all-targets"];
    cargo(
        &[&clippy[..], &["--", "--deny", "warnings"]].concat(),
        &[],
        &[],
    )
}

/// Looks for faults in every template.
fn lint_templates() -> Result<(), Failure> {
    let checkout = checkout();
    let templates = [
        "template.yaml",
        "examples/pipeline/template.yaml",
        "examples/on-push/template.yaml",
        "examples/appmesh-metrics/template.yaml",
    ];
    install::programs(&checkout)?;
    let cfn_lint = checkout.join(".local/venv/bin/cfn-lint");
    program(
        Command::new(cfn_lint)
            .args(["--regions", "eu-west-1", "--template"])
            .args(templates),
    )?;
    let checkov = install::checkov(&checkout)?;
    program(
        Command::new(checkov)
            .args(["--config-file", ".checkov.yaml", "--file"])
            .args(templates),
    )
}

/// Becomes serin-local.
fn hand_over(arguments: &[OsString]) -> Result<(), Failure> {
    become_program("debug/serin-local", arguments)
}

/// Becomes a program that was built.
fn become_program(path: &str, arguments: &[OsString]) -> Result<(), Failure> {
    let program = target_folder().join(path);
    let error = Command::new(&program).args(arguments).exec();
    Err(format!("cannot run {}: {error}", program.display()).into())
}

/// The tests that compute for many minutes.
const COMPUTE: [&str; 2] = ["simulation::exhaustive", "simulation::random"];

/// Runs every test. Those of the local cloud wait most of the time: those that compute have the machine meanwhile, with the least
/// priority, and print when the others are done.
fn every_test() -> Result<(), Failure> {
    let computing = Command::new("nice")
        .args(["-n", "19"])
        .arg(cargo_itself())
        .args(["test", "--workspace", "--test", "serin", "--"])
        .args(COMPUTE)
        .current_dir(checkout())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run nice: {error}"))?;
    // Both of its pipes are read meanwhile: it must not wait for a full one.
    let computing = std::thread::spawn(|| computing.wait_with_output());
    let skipped = COMPUTE.iter().flat_map(|tests| ["--skip", tests]);
    let others: Vec<&str> = ["test", "--workspace", "--"]
        .into_iter()
        .chain(skipped)
        .collect();
    let others = cargo(&others, &[], &[]);
    let computed = computing
        .join()
        .expect("waiting for a program does not panic")
        .map_err(|error| format!("cannot read what cargo prints: {error}"))?;
    eprint!("{}", String::from_utf8_lossy(&computed.stderr));
    print!("{}", String::from_utf8_lossy(&computed.stdout));
    others.and(ended_well(computed.status))
}

fn cargo_itself() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// Runs cargo in the checkout.
fn cargo(arguments: &[&str], more: &[OsString], variables: &[(&str, &str)]) -> Result<(), Failure> {
    program(
        Command::new(cargo_itself())
            .args(arguments)
            .args(more)
            .envs(variables.iter().copied()),
    )
}

/// Runs a program in the checkout.
fn program(command: &mut Command) -> Result<(), Failure> {
    let status = command
        .current_dir(checkout())
        .status()
        .map_err(|error| format!("cannot run {}: {error}", command.get_program().display()))?;
    ended_well(status)
}

fn ended_well(status: ExitStatus) -> Result<(), Failure> {
    match status.code() {
        Some(0) => Ok(()),
        code => Err(Failure::Program(
            code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1),
        )),
    }
}

fn checkout() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is one folder below the checkout")
        .to_owned()
}

fn target_folder() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => checkout().join(folder),
        None => checkout().join("target"),
    }
}
