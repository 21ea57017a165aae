//! The comparison of the canary with stable, in whole deployments.

use rstest::rstest;
use serde_json::{Value, json};
use serin::verdict::Comparison;
use serin::{Finding, Outcome, Report, Verdict};
use serin_sim::{AlarmStateValue, Fault, FaultKind, Which, world};

use super::{On, Simulation, arn, request};

/// A world in which stable and the new version fail these shares of the requests, at so many a second.
fn world_where(on: On, stable: f64, canary: f64, requests_per_second: f64) -> Simulation {
    let simulation = Simulation::new(on);
    simulation.account.settings(|settings| {
        settings.error_rates = vec![("1.0.0".into(), stable), ("2.0.0".into(), canary)];
        settings.requests_per_second = requests_per_second;
    });
    // The pre-flight looks at stable's last ten minutes.
    simulation.account.clock().advance(1200);
    simulation.begun_anew()
}

fn compared(verdict: &Verdict) -> Option<&Finding> {
    let mut findings = verdict.findings.iter();
    findings.find(|finding| finding.name == "comparison.errors")
}

/// The evidence on which the deployment was rolled back.
fn evidence(report: &Report) -> (Outcome, Comparison) {
    let finding = compared(report.verdict.as_ref().unwrap()).unwrap();
    (finding.outcome, finding.comparison.unwrap())
}

/// What the ledger kept of the checks, in order.
pub(super) fn kept(simulation: &Simulation) -> Vec<Verdict> {
    let item = |place: u32| {
        let id = format!("evidence#{}#{place}", arn("first"));
        simulation
            .account
            .look(|world| world.item(world::LEDGER_TABLE, &id).cloned())
    };
    let items = (0..).map_while(item);
    let read = |item| {
        let checks = Vec::from_iter(item).into_iter();
        let mut checks: Vec<(String, _)> = checks
            .filter(|(name, _): &(String, _)| name.starts_with("check"))
            .collect();
        checks.sort_by(|one, other| one.0.cmp(&other.0));
        checks
    };
    let checks = items.flat_map(read);
    checks
        .map(|(_, value)| serde_json::from_str(value.as_s().unwrap()).unwrap())
        .collect()
}

/// The plan's notes, from the record of the ledger.
pub(super) fn notes(simulation: &Simulation) -> Vec<String> {
    let id = format!("deployment#{}", arn("first"));
    simulation.account.look(|world| {
        let item = world.item(world::LEDGER_TABLE, &id).unwrap();
        let document: Value = serde_json::from_str(item["document"].as_s().unwrap()).unwrap();
        serde_json::from_value(document["notes"].clone()).unwrap()
    })
}

#[rstest]
#[tokio::test]
async fn a_canary_with_three_times_stables_errors_below_every_limit_is_found_and_rolled_back(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = world_where(on, 0.002, 0.006, 1000.0);
    let deployed = simulation.deploy(request("2.0.0", json!({}))).await;
    deployed
        .assert_rolled_back("times as often, and by chance less often than once in")
        .assert_stable_has_all_traffic()
        .assert_no_request_was_lost();
    let report = deployed.report();
    let (outcome, evidence) = evidence(&report);
    assert_eq!(outcome, Outcome::Unhealthy);
    assert!(
        (2.9..3.1).contains(&evidence.ratio.unwrap()),
        "{evidence:?}"
    );
    assert!(evidence.ratio_from.unwrap() > 1.25, "{evidence:?}");
    for verdict in kept(&simulation) {
        let limit = verdict
            .findings
            .iter()
            .find(|finding| finding.name == "errorRatePercent");
        assert!(limit.is_none_or(|limit| limit.outcome == Outcome::Healthy));
    }
}

#[rstest]
#[tokio::test]
async fn an_outage_that_both_share_holds_the_deployment_and_does_not_roll_it_back(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(1, 2)] step: usize,
) {
    let simulation = world_where(on, 0.001, 0.001, 100.0);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    for _ in 0..step {
        simulation
            .run_until(&mut execution, "Has the traffic shifted?")
            .await;
        simulation.step(&mut execution).await;
    }
    let rates = |rate| {
        simulation.account.settings(|settings| {
            settings.error_rates = vec![("checkout".into(), rate)];
        });
    };
    rates(0.3);
    let until = simulation.account.clock().now().as_second() + 600;
    while simulation.account.clock().now().as_second() < until {
        simulation.step(&mut execution).await;
        assert!(execution.is_running(), "{:?}", execution.status);
    }
    let progress = &execution.data()["progress"];
    assert_eq!(
        progress["weightPercent"],
        [10.0, 50.0][step - 1],
        "no further"
    );
    rates(0.001);
    let over = simulation.account.clock().now();
    simulation.finish(execution).await.assert_promoted();
    let checks = kept(&simulation);
    assert!(
        checks
            .iter()
            .any(|verdict| verdict.outcome == Outcome::Inconclusive)
    );
    let held = checks.iter().rfind(|verdict| verdict.step == step).unwrap();
    let minutes = (held.at.as_second() - over.as_second()) / 60;
    assert!(
        minutes < 15,
        "it goes on {minutes} minutes after the outage"
    );
}

#[rstest]
#[tokio::test]
async fn a_canary_that_is_like_a_stable_above_the_limit_is_rolled_back_as_the_plan_has_told(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = world_where(on, 0.03, 0.03, 100.0);
    let deployed = simulation.deploy(request("2.0.0", json!({}))).await;
    deployed.assert_rolled_back("above the limit of 1 percent");
    let told = notes(&simulation).join(" ");
    assert!(
        told.contains("Stable itself is above checks.errorRatePercent"),
        "{told}"
    );
    assert!(kept(&simulation).len() < 10, "and not only at the deadline");
}

#[rstest]
#[tokio::test]
async fn a_canary_without_traffic_is_never_promoted(#[values(On::AppMesh, On::Alb)] on: On) {
    // Whoever has no limit on errors has only the comparison.
    for limit in [json!({ "max": 1.0 }), Value::Null] {
        let simulation = Simulation::new(on);
        let checks = json!({ "errorRatePercent": limit, "alarms": ["quiet"], "judge": {} });
        simulation
            .account
            .set_alarm("quiet", AlarmStateValue::Ok, "");
        let more = json!({ "checks": checks, "deadlineSeconds": 3600 });
        let mut execution = simulation.start("first", request("2.0.0", more));
        simulation
            .run_until(&mut execution, "Has the traffic shifted?")
            .await;
        simulation
            .account
            .settings(|settings| settings.requests_per_second = 0.0);
        let deployed = simulation.finish(execution).await;
        deployed.assert_rolled_back("the deployment's deadline has passed");
        let healthy = |verdict: &Verdict| verdict.outcome == Outcome::Healthy;
        assert!(!kept(&simulation).iter().any(healthy));
    }
}

#[rstest]
#[tokio::test]
async fn a_quiet_service_extends_the_last_step_beside_stable_as_the_plan_has_told(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = world_where(on, 0.0, 0.0, 4.0);
    let deployed = simulation.deploy(request("2.0.0", json!({}))).await;
    deployed.assert_promoted();
    let told = notes(&simulation).join(" ");
    assert!(told.contains("so the last of them is extended"), "{told}");
    let checks = kept(&simulation);
    let at = |step| {
        checks
            .iter()
            .filter(move |verdict| verdict.step == step)
            .count()
    };
    assert!(at(2) > at(1) + 3, "{} and {}", at(1), at(2));
    let last = checks.iter().rfind(|verdict| verdict.step == 2).unwrap();
    assert!(last.comparison().unwrap().seen >= 1.0);
    assert!(
        deployed
            .report()
            .verdicts
            .iter()
            .all(|verdict| verdict.outcome == Outcome::Healthy)
    );
}

#[rstest]
#[tokio::test]
async fn whoever_wants_it_has_enough_seen_at_every_step(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = world_where(on, 0.0, 0.0, 20.0);
    let more = json!({ "checks": { "judge": { "extend": "everyStep" } } });
    let deployed = simulation.deploy(request("2.0.0", more)).await;
    deployed.assert_promoted();
    let checks = kept(&simulation);
    let last = checks.iter().rfind(|verdict| verdict.step == 1).unwrap();
    assert!(last.comparison().unwrap().seen >= 1.0, "{last:?}");
}

#[rstest]
#[tokio::test]
async fn a_canary_that_a_person_resumed_is_not_condemned_for_what_it_did_before(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = world_where(on, 0.0, 0.1, 100.0);
    simulation.lambdas.answer_after(600, json!("resume"));
    let more = json!({ "onUnhealthy": "freeze" });
    let mut execution = simulation.start("first", request("2.0.0", more));
    simulation.run_until(&mut execution, "Ask a person").await;
    simulation
        .account
        .settings(|settings| settings.error_rates = Vec::new());
    let deployed = simulation.finish(execution).await;
    deployed.assert_promoted();
    assert_eq!(simulation.lambdas.asked().len(), 1);
}

#[rstest]
#[tokio::test]
async fn the_comparison_can_be_turned_off(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = world_where(on, 0.002, 0.006, 1000.0);
    let more = json!({ "checks": { "judge": null } });
    let deployed = simulation.deploy(request("2.0.0", more)).await;
    deployed.assert_promoted();
    assert!(
        kept(&simulation)
            .iter()
            .all(|verdict| compared(verdict).is_none())
    );
}

#[rstest]
#[tokio::test]
async fn evidence_that_cannot_be_kept_stops_nothing(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = Simulation::new(on);
    let mut execution = simulation.start("first", request("2.0.0", json!({})));
    simulation
        .run_until(&mut execution, "Has the traffic shifted?")
        .await;
    simulation.account.inject(Fault {
        operation: "UpdateItem",
        which: Which::Always,
        kind: FaultKind::Denied,
    });
    simulation
        .run_until(&mut execution, "Clean up behind the new version")
        .await;
    simulation.account.heal();
    simulation.finish(execution).await.assert_promoted();
    assert_eq!(kept(&simulation), []);
}

#[rstest]
#[tokio::test]
async fn a_good_canary_is_compared_up_to_the_last_minute_that_stable_serves_too(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = world_where(on, 0.001, 0.001, 1000.0);
    let deployed = simulation.deploy(request("2.0.0", json!({}))).await;
    deployed.assert_promoted();
    let checks = kept(&simulation);
    let until: Vec<_> = checks
        .iter()
        .filter(|verdict| verdict.step == 3)
        .map(|verdict| verdict.comparison().unwrap().until)
        .collect();
    // The first of these checks comes before the data of the last minute beside stable.
    let settled = &until[1..];
    assert!(
        settled.len() > 1 && settled.iter().all(|at| *at == settled[0]),
        "{until:?}"
    );
    let table = serin::verdict::table(&checks);
    assert_eq!(table.lines().count(), checks.len() + 1, "{table}");
}

/// A Kayenta configuration with one metric, the percentage of failed requests.
fn kayenta(on: On, critical: bool) -> Value {
    let (namespace, all, failed) = match on {
        On::AppMesh => {
            let series = |class: &str| {
                json!({ "MetricName": "envoy_http_downstream_rq_xx", "Dimensions": [
                    { "Name": "ClusterName", "Value": "{{clusterName}}" },
                    { "Name": "TaskDefinitionFamily", "Value": "{{canaryFamily}}" },
                    { "Name": "envoy_http_conn_manager_prefix", "Value": "ingress" },
                    { "Name": "envoy_response_code_class", "Value": class },
                ] })
            };
            ("ECS/ContainerInsights/Prometheus", series("2"), series("5"))
        }
        On::Alb => {
            let series = |name: &str| {
                json!({ "MetricName": name, "Dimensions": [
                    { "Name": "TargetGroup", "Value": "{{targetGroup}}" },
                    { "Name": "LoadBalancer", "Value": "{{loadBalancer}}" },
                ] })
            };
            (
                "AWS/ApplicationELB",
                series("HTTPCode_Target_2XX_Count"),
                series("HTTPCode_Target_5XX_Count"),
            )
        }
    };
    let part = |id: &str, mut metric: Value| {
        metric["Namespace"] = namespace.into();
        let stat = json!({ "Metric": metric, "Period": 60, "Stat": "Sum" });
        json!({ "Id": id, "MetricStat": stat, "ReturnData": false })
    };
    let parts = json!([
        part("served", all),
        part("failed", failed),
        { "Id": "rate", "Expression": "100 * failed / (failed + served)" },
    ]);
    json!({
        "name": "checkout",
        "judge": { "name": "NetflixACAJudge-v1.0", "judgeConfigurations": {} },
        "metrics": [{
            "name": "errors", "groups": ["errors"], "scopeName": "default",
            "query": { "type": "cloudwatch", "metricDataQueries": parts },
            "analysisConfigurations": { "canary": { "direction": "increase", "critical": critical } },
        }],
        "classifier": { "groupWeights": { "errors": 100 } },
    })
}

/// Checks by Kayenta's judge, every five minutes, over three steps of ten.
fn by_kayenta(config: &Value) -> Value {
    let step = |percent| json!({ "weightPercent": percent, "holdSeconds": 600 });
    let judge = json!({ "warmUpSeconds": 120, "kayenta": { "config": config } });
    json!({
        "plan": { "steps": [step(10), step(50), step(100)] },
        "checks": { "errorRatePercent": { "max": 5.0 }, "judge": judge },
    })
}

fn kayentas(verdict: &Verdict) -> Option<&Finding> {
    let mut findings = verdict.findings.iter();
    findings.find(|finding| finding.name == "kayenta.score")
}

#[rstest]
#[tokio::test]
async fn kayentas_judge_rolls_back_what_it_scores_as_marginal_or_less(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let simulation = world_where(on, 0.002, 0.006, 1000.0);
    let more = by_kayenta(&kayenta(on, false));
    let deployed = simulation.deploy(request("2.0.0", more)).await;
    deployed
        .assert_rolled_back("Kayenta's score is 0 in judgement 1 of 4")
        .assert_stable_has_all_traffic();
    let report = deployed.report();
    let verdict = report.verdict.unwrap();
    let finding = kayentas(&verdict).unwrap();
    assert!(
        finding.sentence.contains("errors High (3.00 times stable)"),
        "{}",
        finding.sentence
    );
    assert_eq!(
        (finding.outcome, finding.value),
        (Outcome::Unhealthy, Some(0.0))
    );
    assert_eq!(
        compared(&verdict),
        None,
        "it judges in the comparison's place"
    );
}

#[rstest]
#[tokio::test]
async fn kayentas_judge_promotes_after_its_last_judgement(#[values(On::AppMesh, On::Alb)] on: On) {
    let simulation = world_where(on, 0.002, 0.002, 1000.0);
    let more = by_kayenta(&kayenta(on, true));
    let deployed = simulation.deploy(request("2.0.0", more)).await;
    deployed.assert_promoted();
    let checks = kept(&simulation);
    let second = checks.iter().rfind(|verdict| verdict.step == 2).unwrap();
    let finding = kayentas(second).unwrap();
    assert_eq!(
        (finding.outcome, finding.value),
        (Outcome::Healthy, Some(100.0))
    );
}

#[rstest]
#[tokio::test]
async fn kayentas_judge_asks_of_the_baseline_what_it_asks_of_the_canary(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(true, false)] has_baseline: bool,
) {
    let simulation = world_where(on, 0.002, 0.006, 1000.0);
    simulation.account.settings(|settings| {
        // Whatever is young fails three times as often.
        settings.error_rates.insert(0, ("-baseline ".into(), 0.006));
    });
    let mut more = by_kayenta(&kayenta(on, true));
    more["checks"]["judge"]["baseline"] = has_baseline.into();
    let deployed = simulation.deploy(request("2.0.0", more)).await;
    if has_baseline {
        deployed.assert_promoted();
    } else {
        deployed.assert_rolled_back("Kayenta's score is 0");
    }
}

#[rstest]
#[tokio::test]
async fn kayentas_judge_of_other_metrics_stands_beside_the_comparison_of_errors(
    #[values(On::AppMesh, On::Alb)] on: On,
    #[values(true, false)] fails: bool,
) {
    // What Kayenta's judge is asked about says nothing of errors here: it is the alike stable on both sides.
    let config = kayenta(on, true);
    let text = config.to_string();
    let config = text.replace(
        "100 * failed / (failed + served)",
        "0 * failed + served / served",
    );
    let mut more = by_kayenta(&serde_json::from_str(&config).unwrap());
    more["checks"]["judge"]["kayenta"]["besideErrors"] = true.into();
    let simulation = world_where(on, 0.002, if fails { 0.006 } else { 0.002 }, 1000.0);
    let deployed = simulation.deploy(request("2.0.0", more)).await;
    if fails {
        deployed.assert_rolled_back("times as often, and by chance less often than once in");
    } else {
        deployed.assert_promoted();
        let checks = kept(&simulation);
        let both = |verdict: &&Verdict| compared(verdict).is_some() && kayentas(verdict).is_some();
        assert!(checks.iter().filter(both).count() > 5);
    }
}

#[rstest]
#[tokio::test]
async fn a_fault_in_a_kayenta_configuration_is_told_before_anything_is_created(
    #[values(On::AppMesh, On::Alb)] on: On,
) {
    let faulty = |path: &str, value: Value| {
        let mut config = kayenta(on, false);
        *config.pointer_mut(path).unwrap() = value;
        by_kayenta(&config)
    };
    let query = "/metrics/0/query/metricDataQueries/2/Expression";
    for (more, sentence) in [
        (
            faulty("/judge/name", json!("dredd-v1.0")),
            "checks.judge.kayenta.config.judge.name: \"dredd-v1.0\" is not known",
        ),
        (
            faulty("/metrics/0/groups", json!("errors")),
            "checks.judge.kayenta.config.metrics[0].groups: ",
        ),
        (
            faulty("/metrics/0/query/metricDataQueries/0/Id", json!("Served")),
            "checks.judge.kayenta.config.metrics[0].query.metricDataQueries[0].Id: \"Served\" is no id",
        ),
        (
            faulty(query, json!("rate{{nobody}}")),
            "\"{{nobody\" is no placeholder",
        ),
    ] {
        let simulation = world_where(on, 0.0, 0.0, 100.0);
        let deployed = simulation.deploy(request("2.0.0", more)).await;
        deployed.assert_refused("InvalidRequest", sentence);
    }
}
