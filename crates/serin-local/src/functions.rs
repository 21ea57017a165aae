//! The functions: the prebuilt binaries behind cargo-lambda's emulator of the Lambda runtime API.
//!
//! Nothing is compiled here. Each function is one process, so invocations of one function run one after the other.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::ports::free_port;
use crate::process::{Process, Undertaker};

/// The functions, by the names of their binaries, in the order of a deployment's life.
pub const FUNCTIONS: [&str; 10] = [
    "plan-deployment",
    "create-canary",
    "shift-weight",
    "health-check",
    "cleanup",
    "rollback",
    "sweep",
    "notify",
    "status",
    "decide",
];

/// How long an invocation may take, as the template says.
pub const FUNCTION_TIME_OUT: Duration = Duration::from_secs(30);

/// How long the emulator may take to listen.
const EMULATOR_UP_WITHIN: Duration = Duration::from_secs(30);

/// The pause before a process that ended is started again.
const RESTART_AFTER: Duration = Duration::from_millis(200);

/// How long a process may take to end when it is asked to.
const GRACE: Duration = Duration::from_secs(1);

/// Why the functions could not be started.
#[derive(Debug, thiserror::Error)]
pub enum FunctionsError {
    /// A binary is missing.
    #[error("{} is missing; `cargo build --workspace --bins` makes it", .0.display())]
    NotBuilt(PathBuf),
    /// A program could not be started.
    #[error("cannot start {program}")]
    Program {
        /// The program.
        program: String,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// The emulator did not listen in time.
    #[error("cargo-lambda does not listen; see {}", .0.display())]
    EmulatorDown(PathBuf),
}

/// What the functions need to run.
#[derive(Debug)]
pub(crate) struct FunctionsConfig<'a> {
    /// The cargo-lambda program.
    pub(crate) cargo_lambda: &'a Path,
    /// The folder of the workspace, which cargo-lambda asks which functions there are.
    pub(crate) workspace: &'a Path,
    /// The folder of the prebuilt binaries.
    pub(crate) binaries: &'a Path,
    /// The folder for logs.
    pub(crate) logs: &'a Path,
    /// The environment that the template gives to every function.
    pub(crate) environment: BTreeMap<String, String>,
}

/// The emulator and the functions' processes.
#[derive(Debug)]
pub(crate) struct FunctionProcesses {
    functions: BTreeMap<String, FunctionProcess>,
    supervisors: std::sync::Mutex<Vec<JoinHandle<()>>>,
    halt: watch::Sender<bool>,
}

impl FunctionProcesses {
    /// Starts the emulator and then every function.
    pub(crate) async fn start(
        undertaker: &Arc<Undertaker>,
        config: FunctionsConfig<'_>,
    ) -> Result<Self, FunctionsError> {
        if let Some(missing) = FUNCTIONS
            .iter()
            .map(|name| config.binaries.join(name))
            .find(|path| !path.is_file())
        {
            return Err(FunctionsError::NotBuilt(missing));
        }
        let program = |program: &Path| {
            let program = program.display().to_string();
            move |source| FunctionsError::Program { program, source }
        };
        let port = free_port().map_err(program(config.cargo_lambda))?;
        let mut emulator = Command::new(config.cargo_lambda);
        emulator
            .args([
                "lambda",
                "watch",
                "--only-lambda-apis",
                "--invoke-address",
                "127.0.0.1",
            ])
            .args(["--invoke-port", &port.to_string()])
            .current_dir(config.workspace);
        let log = config.logs.join("cargo-lambda.log");
        let emulator = undertaker
            .spawn(emulator, &log)
            .map_err(program(config.cargo_lambda))?;
        wait_until_up(port)
            .await
            .map_err(|()| FunctionsError::EmulatorDown(log))?;

        let (halt, halted) = watch::channel(false);
        let mut functions = BTreeMap::new();
        let mut supervisors = vec![tokio::spawn(keep(emulator, halted.clone()))];
        for name in FUNCTIONS {
            let function = FunctionProcess {
                invocation_url: format!(
                    "http://127.0.0.1:{port}/2015-03-31/functions/{name}/invocations"
                ),
                ends: watch::Sender::new(0),
                replace: Arc::new(Notify::new()),
            };
            let start = Start {
                undertaker: Arc::clone(undertaker),
                program: config.binaries.join(name),
                environment: environment(name, port, &config.environment),
                log: config.logs.join(format!("{name}.log")),
            };
            let process = start.process().map_err(program(&start.program))?;
            supervisors.push(tokio::spawn(supervise(
                process,
                start,
                function.clone(),
                halted.clone(),
            )));
            functions.insert(name.to_owned(), function);
        }
        Ok(Self {
            functions,
            supervisors: std::sync::Mutex::new(supervisors),
            halt,
        })
    }

    /// A function by its name.
    pub(crate) fn get(&self, name: &str) -> Option<&FunctionProcess> {
        self.functions.get(name)
    }

    /// Ends every process and waits for it.
    pub(crate) async fn stop(&self) {
        self.halt.send_replace(true);
        let supervisors = std::mem::take(
            &mut *self
                .supervisors
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner),
        );
        for supervisor in supervisors {
            let _ = supervisor.await;
        }
    }
}

impl Drop for FunctionProcesses {
    fn drop(&mut self) {
        let supervisors = self
            .supervisors
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for supervisor in supervisors {
            supervisor.abort();
        }
    }
}

/// One function, for whoever invokes it.
#[derive(Debug, Clone)]
pub(crate) struct FunctionProcess {
    invocation_url: String,
    ends: watch::Sender<u64>,
    replace: Arc<Notify>,
}

impl FunctionProcess {
    /// Where the emulator takes invocations of it.
    pub(crate) fn invocation_url(&self) -> &str {
        &self.invocation_url
    }

    /// Waits from now on until the process ends, which it does only by mistake or killed.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + use<> {
        let mut ends = self.ends.subscribe();
        ends.mark_unchanged();
        async move {
            // It fails when nothing is supervised any more, and then no process is left either.
            let _ = ends.changed().await;
        }
    }

    /// Has the process killed and another one started.
    pub(crate) fn replace(&self) {
        self.replace.notify_one();
    }

    /// Has the process killed and another one started, and waits until it is dead.
    pub(crate) async fn kill(&self) {
        let ended = self.ended();
        self.replace.notify_one();
        ended.await;
    }
}

/// How a function's process is started, again and again.
struct Start {
    undertaker: Arc<Undertaker>,
    program: PathBuf,
    environment: BTreeMap<String, String>,
    log: PathBuf,
}

impl Start {
    fn process(&self) -> std::io::Result<Process> {
        let mut command = Command::new(&self.program);
        // Nothing of the person's own AWS configuration may reach a function.
        command.env_clear().envs(&self.environment);
        self.undertaker.spawn(command, &self.log)
    }
}

/// Keeps a function running, as Lambda does: a process that ended is replaced.
async fn supervise(
    mut process: Process,
    start: Start,
    function: FunctionProcess,
    mut halted: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = until_halted(&mut halted) => {
                process.stop(GRACE).await;
                return;
            }
            () = function.replace.notified() => {
                process.kill().await;
                function.ends.send_modify(|ends| *ends += 1);
            }
            _ = process.ended() => {
                function.ends.send_modify(|ends| *ends += 1);
                tokio::time::sleep(RESTART_AFTER).await;
            }
        }
        match start.process() {
            Ok(next) => process = next,
            // Without a program there is nothing to supervise; invocations then run into their time limit.
            Err(_) => return,
        }
    }
}

async fn until_halted(halted: &mut watch::Receiver<bool>) {
    // It fails only when nobody is left to halt us, which is the same.
    let _ = halted.wait_for(|halted| *halted).await;
}

/// Holds a process until all is to stop.
async fn keep(mut process: Process, mut halted: watch::Receiver<bool>) {
    until_halted(&mut halted).await;
    process.stop(GRACE).await;
}

/// What Lambda sets for a function, and what the template sets.
fn environment(
    name: &str,
    port: u16,
    given: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut environment = given.clone();
    let lambda = [
        (
            "AWS_LAMBDA_RUNTIME_API",
            format!("http://127.0.0.1:{port}/.rt/{name}"),
        ),
        ("AWS_LAMBDA_FUNCTION_NAME", name.to_owned()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "1".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ];
    environment.extend(lambda.map(|(name, value)| (name.to_owned(), value)));
    environment
}

async fn wait_until_up(port: u16) -> Result<(), ()> {
    let up = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(EMULATOR_UP_WITHIN, up)
        .await
        .map_err(drop)
}
