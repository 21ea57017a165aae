//! Times deployments.
#![expect(clippy::print_stdout, reason = "it talks to a person")]
use serde_json::json;
use serin_driver::{On, Simulation, request};

fn main() {
    let runs: usize = std::env::args()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .unwrap_or(20);
    let short = std::env::args().nth(2).is_some();
    for on in [On::AppMesh, On::Alb] {
        for tag in ["2.0.0", "2.0.0-bad"] {
            let begun = std::time::Instant::now();
            let mut calls = 0;
            for _ in 0..runs {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .unwrap();
                let simulation = Simulation::new(on);
                if short {
                    simulation.account.take_the_short_way();
                }
                let deployed =
                    runtime.block_on(Box::pin(simulation.deploy(request(tag, json!({})))));
                assert!(!deployed.execution.is_running());
                calls = simulation.account.calls().len();
            }
            let each = begun.elapsed().as_secs_f64() * 1000.0 / runs as f64;
            println!("{on:?} {tag}: {each:.1} ms, {calls} calls");
        }
    }
}
