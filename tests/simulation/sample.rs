//! The AWS sample pipeline's own `deploy.json`, deployed as it is.

use rstest::rstest;
use serde_json::{Value, json};
use serin_sim::world;

use super::{On, Simulation, arn, request};

#[rstest]
#[tokio::test]
async fn the_samples_file_runs_to_its_weights_and_waits_and_the_plan_has_its_translation(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = Simulation::new(on);
    let image = request("2.0.0", json!({}))["image"].clone();
    let sample = json!({
        "cluster_name": world::CLUSTER, "kubernetes_namespace": "yelb", "microservice_name": "checkout", "container_image": image,
        "percentage_step": 25, "wait_time": 60, "failure_threshold_value": 5, "failure_threshold_time": 300, "config_file": "YQ==",
    });
    simulation.deploy(sample).await.assert_promoted();
    let id = format!("deployment#{}", arn("first"));
    let document: Value = simulation.account.look(|world| {
        let item = world.item(world::LEDGER_TABLE, &id).unwrap();
        serde_json::from_str(item["document"].as_s().unwrap()).unwrap()
    });
    let steps = [25.0, 50.0, 75.0, 100.0]
        .map(|weight| json!({ "weightPercent": weight, "holdSeconds": 60 }));
    assert_eq!(document["plan"], json!(steps));
    let told = document["notes"].to_string();
    assert!(told.contains(r#"\"stepPercent\":25"#), "{told}");
}

#[tokio::test]
async fn a_fault_in_the_samples_file_is_told_in_its_words_and_leaves_nothing() {
    let simulation = Simulation::new(On::Alb);
    let sample = json!({
        "cluster_name": world::CLUSTER, "microservice_name": "checkout", "container_image": "checkout:2", "percentage_step": 25, "wait_time": 5,
    });
    simulation
        .deploy(sample)
        .await
        .assert_refused("InvalidRequest", "wait_time: 5 leaves nothing to judge");
}
