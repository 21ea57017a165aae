//! The status page of simulated deployments, as the function that draws it gives it, and what a browser shows of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use serin_aws::Adapters;
use serin_sim::state_machine::Functions;
use serin_sim::{Fault, FaultKind, Which, world};

use crate::simulation::{On, Simulation, arn, request};

/// What stands in an image's tag where somebody tries it.
pub const MARKUP: &str = r#"2.0.0"><img src=x onerror=alert(1)><b>&amp;"#;

/// What browsers are called, the one that was tested first.
const BROWSERS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// One page.
pub struct Page {
    /// What it shows, as a file may be called.
    pub name: &'static str,
    simulation: Simulation,
    input: Value,
}

impl Page {
    /// The page in this theme and width, as a file that a browser shows.
    pub async fn drawn(&self, theme: &str, width: u32) -> String {
        let html = self.html(theme, width).await;
        standalone(&[html], theme, width)
    }

    /// The function's answer.
    pub async fn html(&self, theme: &str, width: u32) -> String {
        let mut input = self.input.clone();
        input["widgetContext"] = json!({ "theme": theme, "width": width, "height": 800 });
        let answer = Box::pin(Functions::call(&self.simulation.lambdas, "status", input)).await;
        answer.unwrap().as_str().unwrap().to_owned()
    }
}

/// A file that a browser shows like a dashboard: pages below each other, each as wide as the widget, without the texts of the actions.
pub fn standalone(pages: &[String], theme: &str, width: u32) -> String {
    let ground = if theme == "dark" {
        "#0f1620"
    } else {
        "#ffffff"
    };
    let pages = pages.join("</div><div class=widget>");
    format!(
        "<!doctype html><meta charset=utf-8><style>html, body {{ margin: 0; background: {ground} }} .widget {{ width: {width}px }} \
         cwdb-action {{ display: none }}</style><body><div class=widget>{pages}</div></body>"
    )
}

/// The pages: the list, and deployments in every state that looks different.
pub async fn pages() -> Vec<Page> {
    let plan = || {
        json!({ "plan": { "steps": [
            { "weightPercent": 5, "holdSeconds": 300 }, { "weightPercent": 25, "holdSeconds": 300 },
            { "weightPercent": 50, "holdSeconds": 300 }, { "weightPercent": 100, "holdSeconds": 300 } ] } })
    };
    let mut pages = Vec::new();
    let one = |name, simulation| Page {
        name,
        simulation,
        input: json!({ "execution": arn("first") }),
    };

    let running = Simulation::new(On::Alb);
    let mut execution = running.start("first", request("2.0.0", plan()));
    while running.account.look(serin_sim::World::stable_percent) > 60.0 {
        running.step(&mut execution).await;
    }
    for _ in 0..8 {
        running.step(&mut execution).await;
    }
    pages.push(one("running", running));

    let bad = Simulation::new(On::Alb);
    bad.deploy(request("2.0.0-bad", plan())).await;
    pages.push(one("rolled-back", bad));

    let stuck = Simulation::new(On::Alb);
    stuck.account.inject(Fault {
        operation: On::Alb.delete(),
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    stuck.deploy(request("2.0.0-bad", plan())).await;
    pages.push(one("needs-attention", stuck));

    let promoted = Simulation::new(On::Alb);
    promoted.deploy(request("2.0.0", plan())).await;
    pages.push(one("promoted", promoted));

    let refused = Simulation::new(On::Alb);
    let mut wrong = request("2.0.0", json!({ "plann": 1 }));
    wrong["image"] = json!(MARKUP);
    refused.deploy(wrong).await;
    pages.push(one("refused", refused));

    pages.push(one("markup", full_of_markup().await));
    let listed = full_of_markup().await;
    pages.push(Page {
        name: "list",
        simulation: listed,
        input: json!({}),
    });
    pages
}

/// A deployment whose record has markup for its version, which no request can bring there.
async fn full_of_markup() -> Simulation {
    let simulation = Simulation::new(On::Alb);
    simulation
        .deploy(request("2.0.0-bad", json!({ "onUnhealthy": "rollBack" })))
        .await;
    let execution = arn("first");
    let quoted = serde_json::to_string(MARKUP).unwrap();
    let escaped = quoted.trim_matches('"');
    for kind in ["deployment", "history"] {
        let id = format!("{kind}#{execution}");
        let mut item = simulation.account.item(world::LEDGER_TABLE, &id).unwrap();
        for (name, value) in &mut item {
            if let Ok(text) = value.as_s().cloned() {
                let is_json = text.starts_with('{');
                let markup = if is_json { escaped } else { MARKUP };
                let image = world::app_image("2.0.0-bad");
                let digest = image.split(':').next().unwrap().to_owned();
                if name != "id" {
                    *value = serin_sim::text(text.replace(&digest, &format!("{digest}:{markup}")));
                }
            }
        }
        simulation.account.put_item(world::LEDGER_TABLE, &id, item);
    }
    simulation
}

/// The adapters of the account, for whoever reads what the ledger has kept.
pub fn adapters(simulation: &Simulation) -> Adapters {
    Adapters::new(simulation.account.clients(), world::LEDGER_TABLE)
}

/// A browser without a window.
pub struct Browser(PathBuf);

impl Browser {
    /// The browser of this machine.
    ///
    /// # Errors
    /// The sentence that says what to install.
    pub fn find() -> Result<Self, String> {
        let named = std::env::var_os("SERIN_BROWSER").map(PathBuf::from);
        let folders = std::env::var_os("PATH").unwrap_or_default();
        let installed = BROWSERS.iter().find_map(|name| {
            std::env::split_paths(&folders)
                .map(|folder| folder.join(name))
                .find(|path| path.is_file())
        });
        named.or(installed).map(Self).ok_or_else(|| {
            "no Chromium is installed, with which the status page is looked at: `apt-get install chromium`, or name one in SERIN_BROWSER"
                .to_owned()
        })
    }

    fn command(&self, profile: &Path) -> Command {
        let mut command = Command::new(&self.0);
        command.args([
            "--headless",
            "--no-sandbox", // it opens files of our own only, and in a container it may not make one
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--no-first-run",
        ]);
        command.arg(format!("--user-data-dir={}", profile.display()));
        command
    }

    /// The document after its scripts have run.
    pub fn document(&self, file: &Path) -> String {
        let profile = file.with_extension("profile");
        let output = self
            .command(&profile)
            .arg("--dump-dom")
            .arg(format!("file://{}", file.display()))
            .output()
            .unwrap();
        let _ = std::fs::remove_dir_all(profile);
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes a picture of a file into another one.
    pub fn picture(&self, file: &Path, width: u32, height: u32, to: &Path) {
        let profile = file.with_extension("profile");
        let output = self
            .command(&profile)
            .arg(format!("--screenshot={}", to.display()))
            .arg(format!("--window-size={width},{height}"))
            .arg(format!("file://{}", file.display()))
            .output()
            .unwrap();
        let _ = std::fs::remove_dir_all(profile);
        assert!(
            output.status.success() && to.is_file(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
