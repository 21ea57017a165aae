//! `serin-local`: the demo, a local cloud that stays up, and deployments in it. `cargo xtask` builds and runs it.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use serin_local::demo::{self, DemoError};
use serin_local::{LocalRouter, Scenario, running};
use tokio::signal::unix::{SignalKind, signal};

/// The local cloud of Serin.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Deploy a good version and a bad one in a local cloud, and watch
    Demo {
        /// Run this scenario, or several, one after the other in one cloud, when given several times
        #[arg(long)]
        scenario: Vec<Scenario>,
        /// What sends the requests to the versions
        #[arg(long, value_enum, default_value_t)]
        router: LocalRouter,
        /// Write what came of it into a file
        #[arg(long)]
        json: Option<PathBuf>,
    },
    /// Keep a local cloud up
    Local {
        /// What sends the requests to the versions
        #[arg(long, value_enum, default_value_t)]
        router: LocalRouter,
    },
    /// Start a deployment in the running local cloud and follow it
    Deploy {
        /// The request, as JSON
        file: PathBuf,
    },
    /// Print the deployments in the running local cloud, and what happened in each
    History {
        /// Only those of this service, by its name or as `cluster/service`
        service: Option<String>,
    },
    /// Print what the checks of a deployment in the running local cloud found
    Evidence {
        /// The execution, by its ARN
        execution: String,
    },
}

/// What the demo shows when nothing else is asked for.
const DEMO: [Scenario; 2] = [Scenario::Good, Scenario::Bad];

/// The exit code of a program that a signal ended, as shells give it.
const STOPPED: u8 = 130;

#[tokio::main]
async fn main() -> ExitCode {
    let result: Result<(), Box<dyn Error>> = match Arguments::parse().command {
        Command::Demo {
            scenario,
            router,
            json,
        } => {
            let scenarios = if scenario.is_empty() {
                DEMO.to_vec()
            } else {
                scenario
            };
            match demo::run(&scenarios, router, json.as_deref(), told_to_end()).await {
                Err(DemoError::Stopped) => return ExitCode::from(STOPPED),
                result => result.map_err(Into::into),
            }
        }
        Command::Local { router } => running::keep_up(router, told_to_end())
            .await
            .map_err(Into::into),
        Command::Deploy { file } => running::deploy(&file).await.map_err(Into::into),
        Command::History { service } => running::history(service.as_deref())
            .await
            .map_err(Into::into),
        Command::Evidence { execution } => running::evidence(&execution).await.map_err(Into::into),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(error.as_ref());
            ExitCode::FAILURE
        }
    }
}

/// Waits for Ctrl-C, for a polite kill, or for the terminal to go.
async fn told_to_end() {
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            // Without a handler the signal ends this process by itself.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = wait(SignalKind::interrupt()) => {}
        () = wait(SignalKind::terminate()) => {}
        () = wait(SignalKind::hangup()) => {}
    }
}

/// Prints an error and all its causes.
#[expect(clippy::print_stderr, reason = "it talks to a person")]
fn tell(error: &dyn Error) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because {error}");
        cause = error.source();
    }
}
