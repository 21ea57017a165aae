//! Makes pictures of the state machine, and of the status page of simulated deployments; `cargo xtask screenshots` builds and runs it.
#![expect(clippy::print_stderr, reason = "it talks to a person")]
#![expect(clippy::unwrap_used, reason = "all of this is test")]

use std::path::PathBuf;
use std::process::ExitCode;

use serin_driver::pages::{Browser, pages};
use serin_driver::picture;

/// What is shown in the documents.
const SHOWN: [&str; 3] = ["running", "rolled-back", "needs-attention"];
/// How wide the pictures are, in pixels.
const WIDTH: u32 = 1000;
/// So high that every page has room before its own height is known.
const HIGHEST: &str =
    "<script>document.title = Math.ceil(document.body.getBoundingClientRect().height)</script>";

#[tokio::main]
async fn main() -> ExitCode {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap_or("docs".into()));
    let folder = std::path::absolute(folder).unwrap();
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(
        folder.join("state-machine.md"),
        picture::of_the_state_machine(),
    )
    .unwrap();
    let browser = match Browser::find() {
        Ok(browser) => browser,
        Err(sentence) => {
            eprintln!("error: {sentence}");
            return ExitCode::FAILURE;
        }
    };
    for page in pages().await {
        if !SHOWN.contains(&page.name) {
            continue;
        }
        for theme in ["light", "dark"] {
            let file = folder.join(format!("{}-{theme}.html", page.name));
            std::fs::write(&file, page.drawn(theme, WIDTH).await + HIGHEST).unwrap();
            let document = browser.document(&file);
            let (_, height) = document.split_once("<title>").unwrap();
            let height = height.split('<').next().unwrap().parse().unwrap();
            let picture = folder.join(format!("status-{}-{theme}.png", page.name));
            browser.picture(&file, WIDTH, height, &picture);
            std::fs::remove_file(&file).unwrap();
            eprintln!("{}", picture.display());
        }
    }
    ExitCode::SUCCESS
}
