mod reference;

use self::reference::schema;
use serde_json::{Value, json};

use super::parse::{CHECKS_FIELDS, PLAN_FIELDS, REQUEST_FIELDS, WINDOW_FIELDS};
use super::{Capacity, NewVersion, Request};

fn with(more: Value) -> Value {
    let mut request = json!({"cluster": "prod", "service": "checkout", "image": "checkout:2"});
    let Value::Object(more) = more else {
        panic!("an object")
    };
    request.as_object_mut().unwrap().extend(more);
    request
}

fn faults(request: &Value) -> Vec<String> {
    match Request::parse(request) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.0.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "`json!` gives one")]
fn weights(plan: Value) -> Vec<String> {
    let request = Request::parse(&with(
        json!({"plan": plan, "checks": {"settleSeconds": 0, "periodSeconds": 10}, "deadlineSeconds": 9000}),
    ))
    .unwrap();
    request
        .resolve_plan()
        .steps()
        .iter()
        .map(|step| format!("{}@{}", step.weight_percent, step.hold_seconds))
        .collect()
}

#[test]
fn cluster_service_and_image_are_enough() {
    let request = Request::parse(&with(json!({}))).unwrap();
    assert_eq!(
        request.new_version(),
        NewVersion::Image("checkout:2".into())
    );
    assert_eq!(request.capacity, Capacity::MatchWeight);
    let weights: Vec<_> = request
        .resolve_plan()
        .steps()
        .iter()
        .map(|step| step.weight_percent.percent())
        .collect();
    assert_eq!(weights, [5.0, 25.0, 50.0, 100.0]);
}

#[test]
fn the_three_forms_of_a_plan() {
    assert_eq!(
        weights(
            json!({"steps": [{"weightPercent": 0.5, "holdSeconds": 60}, {"weightPercent": 100, "holdSeconds": 10}]})
        ),
        ["0.5@60", "100@10"]
    );
    assert_eq!(
        weights(json!({"stepPercent": 40, "intervalSeconds": 60})),
        ["40@60", "80@60", "100@60"]
    );
    assert_eq!(
        weights(json!({"stepPercent": 20, "intervalSeconds": 60, "maxWeightPercent": 50})),
        ["20@60", "40@60", "50@60"]
    );
    assert_eq!(
        weights(json!({"preset": "ECSCanary10Percent5Minutes"})),
        ["10@300", "100@300"]
    );
    assert_eq!(
        weights(json!({"preset": "ECSCanary10Percent15Minutes"})),
        ["10@900", "100@900"]
    );
    assert_eq!(weights(json!({"preset": "ECSAllAtOnce"})), ["100@300"]);
    let every_minute = weights(json!({"preset": "ECSLinear10PercentEvery1Minutes"}));
    assert_eq!(
        (
            every_minute.len(),
            every_minute[0].as_str(),
            every_minute[9].as_str()
        ),
        (10, "10@60", "100@60")
    );
    assert_eq!(
        weights(json!({"preset": "ECSLinear10PercentEvery3Minutes"}))[1],
        "20@180"
    );
}

#[test]
fn code_pipelines_files_are_sources_of_the_image() {
    let detail = json!({"cluster": "prod", "service": "checkout", "container": "app",
        "imageDetail": {"ImageURI": "repo@sha256:0", "ImageTags": ["2"], "RepositoryName": "repo"}});
    assert_eq!(
        Request::parse(&detail).unwrap().new_version(),
        NewVersion::Image("repo@sha256:0".into())
    );
    let definitions = json!({"cluster": "prod", "service": "checkout", "imageDefinitions": [{"name": "app", "imageUri": "repo:2"}]});
    assert!(
        matches!(Request::parse(&definitions).unwrap().new_version(), NewVersion::Images(images) if images.len() == 1)
    );
}

#[test]
fn all_faults_are_reported_at_once_each_with_its_path() {
    let request = json!({
        "cluster": 5,
        "servcie": "checkout",
        "image": "checkout:2",
        "plan": {"steps": [
            {"weightPercent": 5, "holdSeconds": 300}, {"weightPercent": 5.55, "holdSeconds": 300}, {"weightPercent": 101, "holdSeconds": 0}]},
        "checks": {"minRequest": 5, "failuresAllowed": -1},
    });
    assert_eq!(
        faults(&request),
        [
            "servcie: unknown field; did you mean service?",
            "cluster: 5 is a number; a text is expected",
            "service: missing; the name of an ECS service is needed",
            "plan.steps[1].weightPercent: 5.55 has more than one decimal",
            "plan.steps[2].weightPercent: 101 is above 100",
            "plan.steps[2].holdSeconds: 0 is below 1",
            "checks.minRequest: unknown field; did you mean minRequests?",
            "checks.failuresAllowed: -1 is below 0",
        ]
    );
}

#[test]
fn the_table_of_bad_requests_in_the_readme_is_true() {
    let readme = include_str!("../../../../README.md");
    let mut rows = 0;
    for line in readme
        .lines()
        .skip_while(|line| !line.starts_with("| This in the request"))
        .skip(2)
    {
        let Some((change, error)) = line.trim_matches('|').split_once(" | ") else {
            break;
        };
        let change = change.trim().trim_matches('`');
        let error = error.trim().trim_matches('`');
        let change: Value =
            serde_json::from_str(change).unwrap_or_else(|error| panic!("{change}: {error}"));
        let mut request = with(change);
        // A field that is `"-"` in the table stands for leaving it out.
        request
            .as_object_mut()
            .unwrap()
            .retain(|_, value| value != "-");
        assert_eq!(faults(&request).join("; "), error, "{request}");
        rows += 1;
    }
    assert!(rows >= 30, "{rows} rows");
}

#[test]
fn what_is_written_is_what_is_read() {
    let full = with(json!({
        "router": {"kind": "appMesh", "proxyContainer": "envoy", "routes": [{"virtualRouter": "r", "route": "r"}]},
        "plan": {"stepPercent": 10, "intervalSeconds": 300},
        "capacity": {"tasks": 2},
        "container": "app",
        "checks": {
            "intervalSeconds": 30, "settleSeconds": 10, "periodSeconds": 30, "dataDelaySeconds": 60, "failuresAllowed": 2, "minRequests": 10,
            "onTooLittleData": "proceed", "errorRatePercent": {"max": 0.5}, "latencyMs": [{"percentile": 99, "max": 500.0}],
            "alarms": ["a"],
            "queries": [{"name": "latency", "max": 0.5, "metricDataQueries": [{
                "Id": "q", "MetricStat": {"Metric": {"Namespace": "n", "MetricName": "m", "Dimensions": [{"Name": "f", "Value": "{{canaryFamily}}"}]},
                "Period": 60, "Stat": "p99"}}]}],
        },
        "finish": {"mode": "replace", "keepCanarySeconds": 60},
        "onUnhealthy": "freeze",
        "onConflict": "supersede",
        "ifUnchanged": "refuse",
        "window": {"days": ["mon", "fri"], "hours": "22:00-06:00", "timeZone": "Europe/Berlin", "outside": "refuse", "override": "the shop is down"},
        "maxWaitSeconds": 600,
        "readyWithinSeconds": 600,
        "deadlineSeconds": 9_000,
    }));
    let request = Request::parse(&full).unwrap();
    let written = serde_json::to_value(&request).unwrap();
    assert_eq!(Request::parse(&written).unwrap(), request);
    assert_eq!(serde_json::from_value::<Request>(full).unwrap(), request);
}

#[test]
fn the_schema_knows_exactly_the_fields_that_are_read() {
    let schema = schema();
    let names = |pointer: &str| -> Vec<String> {
        let mut names: Vec<_> = schema
            .pointer(pointer)
            .unwrap()
            .as_object()
            .unwrap()
            .keys()
            .cloned()
            .collect();
        names.sort();
        names
    };
    let sorted = |fields: &[&str]| -> Vec<String> {
        let mut names: Vec<_> = fields.iter().map(ToString::to_string).collect();
        names.sort();
        names
    };
    assert_eq!(names("/properties"), sorted(REQUEST_FIELDS));
    assert_eq!(names("/$defs/PlanRequest/properties"), sorted(PLAN_FIELDS));
    assert_eq!(names("/$defs/Checks/properties"), sorted(CHECKS_FIELDS));
    assert_eq!(
        names("/$defs/ChangeWindow/properties"),
        sorted(WINDOW_FIELDS)
    );
}

#[test]
fn the_committed_schema_is_the_one_that_the_types_generate() {
    let generated = format!("{:#}\n", schema());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../request.schema.json");
    if std::env::var_os("SERIN_WRITE_SCHEMA").is_some() {
        std::fs::write(path, &generated).unwrap();
    }
    // Compared as values: whether JSON's members keep their order is a feature of a crate that others may switch on.
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let committed: Value = serde_json::from_str(&committed).unwrap_or_default();
    assert!(
        committed == schema(),
        "request.schema.json is not current; `cargo xtask schema` writes it"
    );
}
