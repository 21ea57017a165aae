//! The path of an execution through the states, in a form in which two worlds can be compared.

use serde_json::Value;

use crate::simulation::{On, Simulation, request};

/// The path without what depends on how long things take: how often something is waited for and asked again.
pub fn shortened(path: &[String]) -> Vec<String> {
    let mut short: Vec<String> = Vec::new();
    for state in path.iter().filter(|state| !state.starts_with("Wait ")) {
        short.push(state.clone());
        if let [.., a, b, c, d] = short.as_slice()
            && (a, b) == (c, d)
        {
            short.truncate(short.len() - 2);
        }
    }
    short
}

/// The shortened path of a scenario in the simulation: an image by its tag, and what the request says beside it.
///
/// The metrics have a period of ten seconds, as in the local cloud.
pub async fn path_of(on: On, tag: &str, more: Value) -> Vec<String> {
    let simulation = Simulation::new(on);
    simulation
        .account
        .settings(|settings| settings.metric_period = 10);
    simulation.account.clock().advance(600); // so that stable has metrics of that period
    shortened(&simulation.deploy(request(tag, more)).await.execution.path)
}

#[test]
fn how_often_something_is_asked_again_is_no_part_of_the_shortened_path() {
    let path = [
        "Plan",
        "Create",
        "Ready?",
        "Wait for it",
        "Create",
        "Ready?",
        "Wait for it",
        "Create",
        "Ready?",
        "Shift",
        "Shifted?",
    ];
    let short = shortened(&path.map(str::to_owned));
    assert_eq!(short, ["Plan", "Create", "Ready?", "Shift", "Shifted?"]);
}
