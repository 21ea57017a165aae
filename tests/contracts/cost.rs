//! What the document on costs says, held against a simulated deployment.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use serde_json::json;
use serin_driver::project::read;
use serin_sim::{Service, World};

use crate::simulation::{On, Simulation, request};

/// How much of what a deployment with the default plan uses, in the order of the document.
async fn used() -> Vec<(&'static str, f64)> {
    let simulation = Simulation::new(On::Alb);
    simulation.lambdas.remember();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let seen = calls.clone();
    simulation
        .account
        .on_call(move |_, call| seen.lock().unwrap().push(call.service));
    let before = simulation.account.look(World::metrics_requested);
    let mut wish = request("2.0.0", json!({}));
    wish.as_object_mut().unwrap().remove("plan");
    let deployed = simulation.deploy(wish).await;
    deployed.assert_promoted();
    let metrics = simulation.account.look(World::metrics_requested) - before;
    let calls = calls.lock().unwrap();
    let of = |service| calls.iter().filter(|called| **called == service).count();
    #[expect(clippy::cast_precision_loss, reason = "some hundreds")]
    let used = |count: usize| count as f64;
    let invocations = used(simulation.lambdas.invoked());
    vec![
        ("state transitions", used(deployed.execution.path.len())),
        ("Lambda requests", invocations),
        ("Lambda time, GB-seconds", invocations * 0.3 * 0.25),
        ("metrics requested", used(usize::try_from(metrics).unwrap())),
        ("DynamoDB calls", used(of(Service::DynamoDb))),
        ("events", used(of(Service::EventBridge))),
    ]
}

/// `$0.025 per 1,000` as the price of one.
fn price(text: &str) -> f64 {
    let (price, per) = text.trim_start_matches('$').split_once(" per ").unwrap();
    price.parse::<f64>().unwrap() / per.replace(',', "").parse::<f64>().unwrap()
}

#[tokio::test]
async fn the_worked_estimate_of_a_deployment_is_what_a_simulated_one_uses() {
    let document = read("docs/cost.md");
    let rows: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.contains("| $"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let used = used().await;
    let mut sum = 0.0;
    let mut should = String::new();
    for ((what, amount), row) in used.iter().zip(&rows) {
        let costs = amount * price(row[2]);
        sum += costs;
        writeln!(
            should,
            "| {what} | {} | {} | ${costs:.4} |",
            amount.round(),
            row[2]
        )
        .unwrap();
    }
    writeln!(should, "| **Serin** | | | **${sum:.4}** |").unwrap();
    assert!(
        document.contains(&should),
        "docs/cost.md should have\n{should}"
    );
}
