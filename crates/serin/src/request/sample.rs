//! The AWS sample pipeline's own form of a request, translated, so that its `deploy.json` can be deployed as it is.
//!
//! The sample has two spellings: `percentage_step` for Amazon EKS and `PercentageStep` for Amazon ECS
//! (aws-app-mesh-examples, `blogs/eks-canary-deployments-pipeline` and `blogs/ecs-canary-deployments-pipeline`).

use serde_json::{Map, Value, json};

use super::fault::Faults;
use super::{LONGEST_DEADLINE_SECONDS, Request, default_deadline};

/// What is translated: both spellings, and the path in a request.
const TRANSLATED: [([&str; 2], &str); 5] = [
    (["cluster_name", "EnvironmentName"], "cluster"),
    (["microservice_name", "MicroserviceName"], "service"),
    (["container_image", "ContainerImage"], "image"),
    (["percentage_step", "PercentageStep"], "plan.stepPercent"),
    (["wait_time", "WaitTime"], "plan.intervalSeconds"),
];
/// What limits errors there: a count in a time.
const FAILURES: [[&str; 2]; 2] = [
    ["failure_threshold_value", "FailureThresholdValue"],
    ["failure_threshold_time", "FailureThresholdTime"],
];
/// What says nothing here: where Kubernetes finds the service, and what the sample's stack of a canary is made of.
const LEFT_OUT: [&str; 7] = [
    "kubernetes_namespace",
    "config_file",
    "Namespace",
    "Sha",
    "Port",
    "Protocol",
    "CanaryTemplate",
];
/// How often the metrics come, in seconds: a hold must last as long.
const PERIOD_SECONDS: u64 = 60;

/// A request that was read, and what there is to tell of how.
#[derive(Debug, Clone, PartialEq)]
pub struct Read {
    /// The request.
    pub request: Request,
    /// What was translated; nothing when it came in Serin's own form.
    pub notes: Vec<String>,
}

/// Reads a request in Serin's own form, or in that of the AWS sample pipeline.
///
/// # Errors
/// [`Faults`]: every fault at once, each with its path, in the words of the form in which it came.
pub fn read(value: &Value) -> Result<Read, Faults> {
    let sample = value.as_object().filter(|fields| {
        fields.contains_key("microservice_name") || fields.contains_key("MicroserviceName")
    });
    let Some(fields) = sample else {
        let request = Request::parse(value)?;
        return Ok(Read {
            request,
            notes: Vec::new(),
        });
    };
    let mut faults = Faults::default();
    for key in fields.keys() {
        let names = TRANSLATED.iter().map(|(names, _)| names);
        let mut names = names.chain(&FAILURES).flatten().chain(&LEFT_OUT);
        if !names.any(|name| name == key) {
            let sentence = "not known to the AWS sample pipeline, whose form this request has; with Serin's own fields cluster and service everything else can be said";
            faults.add(key, sentence);
        }
    }
    let numbers = FAILURES.map(|names| number(&mut faults, fields, names));
    let request = translated(&mut faults, fields);
    if !faults.0.is_empty() {
        return Err(faults);
    }
    let parsed = Request::parse(&request).map_err(|faults| in_their_words(faults, fields))?;
    let mut notes = vec![format!(
        "The request came in the form of the AWS sample pipeline; in Serin's own it is {request}."
    )];
    if numbers.iter().any(Option::is_some) {
        notes.push("failure_threshold_value is a count of errors, which means another thing at every traffic; here errors are compared with stable's, and limited by checks.errorRatePercent.".into());
    }
    let left_out = LEFT_OUT.iter().filter(|name| fields.contains_key(**name));
    let left_out: Vec<_> = left_out.copied().collect();
    if !left_out.is_empty() {
        notes.push(format!("Of no use here: {}.", left_out.join(", ")));
    }
    Ok(Read {
        request: parsed,
        notes,
    })
}

/// The request in Serin's own form. What is missing or wrong in it is found by [`Request::parse`].
fn translated(faults: &mut Faults, fields: &Map<String, Value>) -> Value {
    let mut request = json!({});
    for (names, path) in TRANSLATED {
        let value = match path {
            "plan.stepPercent" | "plan.intervalSeconds" => number(faults, fields, names),
            _ => get(fields, names).map(|(_, value)| value.clone()),
        };
        let Some(value) = value else { continue };
        match path.split_once('.') {
            Some((object, field)) => request[object][field] = value,
            None => request[path] = value,
        }
    }
    let (step, wait) = (
        request["plan"]["stepPercent"].as_f64(),
        request["plan"]["intervalSeconds"].as_u64(),
    );
    if let (Some(step), Some(wait)) = (step.filter(|step| *step > 0.0), wait) {
        // The sample waits for no settling; a short wait leaves none here either.
        let settle = wait.saturating_sub(PERIOD_SECONDS).min(60);
        request["checks"] = json!({ "settleSeconds": settle });
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at most a thousand steps of a tenth of a percent"
        )]
        let steps = (100.0 / step).ceil().min(1000.0) as u64;
        // The sample has no deadline: twice what the steps take, and never less than usual.
        let needed = 2 * steps * (wait + 2 * PERIOD_SECONDS);
        let deadline = needed.clamp(default_deadline().into(), LONGEST_DEADLINE_SECONDS.into());
        request["deadlineSeconds"] = deadline.into();
    }
    request
}

fn get<'a>(
    fields: &'a Map<String, Value>,
    names: [&'static str; 2],
) -> Option<(&'static str, &'a Value)> {
    let mut names = names.into_iter();
    names.find_map(|name| Some((name, fields.get(name)?)))
}

/// A number, which the sample's files write as a text at times.
fn number(
    faults: &mut Faults,
    fields: &Map<String, Value>,
    names: [&'static str; 2],
) -> Option<Value> {
    let (name, value) = get(fields, names)?;
    let parsed = match value {
        Value::String(text) => text.trim().parse().ok().map(Value::Number),
        Value::Number(_) => Some(value.clone()),
        _ => None,
    };
    if parsed.is_none() {
        faults.add(name, format!("{value} is not a number"));
    }
    parsed
}

/// The same faults with the sample's names for the fields.
fn in_their_words(mut faults: Faults, fields: &Map<String, Value>) -> Faults {
    for fault in &mut faults.0 {
        let known = TRANSLATED.iter().find(|(_, path)| *path == fault.path);
        if let Some((names, _)) = known {
            let pascal = fields.contains_key("MicroserviceName");
            fault.path = names[usize::from(pascal)].to_owned();
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sample's own file, and what its build adds.
    fn deploy_json() -> Value {
        json!({
            "cluster_name": "prod", "kubernetes_namespace": "yelb", "microservice_name": "checkout",
            "percentage_step": 25, "wait_time": 60, "failure_threshold_value": 5, "failure_threshold_time": 300,
            "container_image": "checkout:2", "config_file": "YQ==",
        })
    }

    fn with(field: &str, value: Value) -> Value {
        let mut request = deploy_json();
        request[field] = value;
        request
    }

    #[test]
    fn the_samples_file_gives_its_weights_and_waits() {
        let Read { request, notes } = read(&deploy_json()).unwrap();
        let steps: Vec<_> = request
            .resolve_plan()
            .steps()
            .iter()
            .map(|step| (step.weight_percent.to_string(), step.hold_seconds))
            .collect();
        let expected = ["25", "50", "75", "100"].map(|weight| (weight.to_owned(), 60));
        assert_eq!(steps, expected);
        assert_eq!(request.image.as_deref(), Some("checkout:2"));
        let told = notes.join(" ");
        assert!(
            told.contains(r#""stepPercent":25"#) && told.contains("is a count of errors"),
            "{told}"
        );
        assert!(
            told.contains("Of no use here: kubernetes_namespace, config_file."),
            "{told}"
        );
    }

    #[test]
    fn the_form_for_amazon_ecs_writes_numbers_as_texts() {
        let sample = json!({
            "EnvironmentName": "prod", "MicroserviceName": "checkout", "Namespace": "app.local", "Sha": "1a2b3c", "ContainerImage": "checkout:2",
            "Port": "80", "Protocol": "http", "PercentageStep": "10", "WaitTime": "600", "CanaryTemplate": "YQ==",
        });
        let Read { request, .. } = read(&sample).unwrap();
        assert_eq!(request.resolve_plan().steps().len(), 10);
        assert_eq!(request.checks.settle_seconds, 60);
        assert!(request.deadline_seconds >= 10 * 720);
    }

    #[test]
    fn faults_are_told_in_the_samples_words() {
        let sentence = |request: Value| read(&request).unwrap_err().to_string();
        for (request, expected) in [
            (with("percentage_step", json!(0)), "percentage_step: 0"),
            (
                with("wait_time", json!(30)),
                "wait_time: 30 leaves nothing to judge",
            ),
            (
                with("wait_time", json!("soon")),
                r#"wait_time: "soon" is not a number"#,
            ),
            (
                with("failure_threshold_value", json!([])),
                "failure_threshold_value: [] is not a number",
            ),
            (
                with("cluster", json!("prod")),
                "cluster: not known to the AWS sample pipeline",
            ),
        ] {
            let sentence = sentence(request);
            assert!(sentence.contains(expected), "{sentence}");
        }
        let mut lacking = deploy_json();
        lacking.as_object_mut().unwrap().remove("container_image");
        assert!(
            sentence(lacking).contains("image"),
            "what is missing is named"
        );
    }

    #[test]
    fn a_request_in_serins_own_form_is_read_as_it_is() {
        let own = json!({ "cluster": "prod", "service": "checkout", "image": "checkout:2" });
        let read = read(&own).unwrap();
        assert_eq!(read.request, Request::parse(&own).unwrap());
        assert_eq!(read.notes, Vec::<String>::new());
    }
}
