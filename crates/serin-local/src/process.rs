//! The operating system's processes that the data plane starts, and the promise that none outlives it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The undertaker's whole program: it keeps the list of processes it is told, and when its input ends it kills them.
/// Signals that a terminal sends to everybody must not reach it, or it would die before its work.
const UNDERTAKER: &str = r#"
trap '' HUP INT TERM
pids=""
while read -r verb pid; do
  case "$verb" in
    add) pids="$pids $pid" ;;
    drop)
      left=""
      for each in $pids; do [ "$each" = "$pid" ] || left="$left $each"; done
      pids="$left" ;;
  esac
done
[ -z "$pids" ] || kill -9 $pids 2>/dev/null
exit 0
"#;

/// Starts processes and makes sure that they end with us, however we end.
///
/// `kill_on_drop` covers a normal end. When this process is killed outright nothing of ours runs any more; but the
/// system then closes our end of a pipe, and a small shell at its other end kills what is left.
#[derive(Debug)]
pub(crate) struct Undertaker {
    shell: Mutex<ChildStdin>,
}

impl Undertaker {
    /// Starts the shell that waits for our end.
    pub(crate) fn start() -> std::io::Result<Arc<Self>> {
        let mut child = std::process::Command::new("sh")
            .arg("-c")
            .arg(UNDERTAKER)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let shell = child.stdin.take().expect("the input was asked to be piped");
        Ok(Arc::new(Self {
            shell: Mutex::new(shell),
        }))
    }

    /// Starts a program in a process group of its own, so that Ctrl-C in the terminal reaches us and not it, and writes
    /// what it prints into a file.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        command: std::process::Command,
        log: &Path,
    ) -> std::io::Result<Process> {
        let mut command = tokio::process::Command::from(command);
        // A process that is started again goes on in the same file.
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let id = child
            .id()
            .expect("a process that was not waited for has an id");
        self.tell("add", id);
        Ok(Process {
            id,
            child,
            undertaker: Arc::clone(self),
            over: false,
        })
    }

    fn tell(&self, verb: &str, id: u32) {
        if let Ok(mut shell) = self.shell.lock() {
            let _ = writeln!(shell, "{verb} {id}");
        }
    }
}

/// A process that was started here.
#[derive(Debug)]
pub(crate) struct Process {
    id: u32,
    child: tokio::process::Child,
    undertaker: Arc<Undertaker>,
    over: bool,
}

impl Process {
    /// Waits for the process to end by itself. May be cancelled and called again.
    pub(crate) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        self.bury();
        Ok(status)
    }

    /// Asks the process to end, gives it `grace`, then kills it. Returns how it ended.
    pub(crate) async fn stop(&mut self, grace: Duration) -> Option<ExitStatus> {
        if !self.over {
            // The safe standard library sends no signal but SIGKILL.
            let _ = tokio::process::Command::new("kill")
                .arg("-TERM")
                .arg(self.id.to_string())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .await;
        }
        if let Ok(status) = tokio::time::timeout(grace, self.ended()).await {
            return status.ok();
        }
        self.kill().await
    }

    /// Kills the process without asking. Returns how it ended.
    pub(crate) async fn kill(&mut self) -> Option<ExitStatus> {
        let _ = self.child.start_kill();
        self.ended().await.ok()
    }

    fn bury(&mut self) {
        if !self.over {
            self.over = true;
            self.undertaker.tell("drop", self.id);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process is killed by kill_on_drop; its number may soon be somebody else's.
        if !self.over {
            let _ = self.child.start_kill();
        }
        self.bury();
    }
}
