//! The rules of a request. One function per object of the JSON, in the order of its fields.

use std::collections::BTreeMap;

use serde_json::Value;

use super::fault::Faults;
use super::queries::{kayenta_queries, queries};
use super::reader::{Object, choice, expected, number, shown, text, weight, whole};
use super::{
    Capacity, ChangeWindow, Checks, Day, Detect, Finish, FinishMode, Freeze, Hours, IfUnchanged,
    ImageDefinition, ImageDetail, Judge, Kayenta, LEAST_SEEN, LONGEST_DEADLINE_SECONDS,
    LatencyLimit, Leftovers, MaxPercent, OnConflict, OnTooLittleData, OnUnhealthy, Outside,
    PlanRequest, Repairs, Request, RouteName, RouterKind, RouterWish, StepRequest, Zone,
    default_deadline, default_kayenta_interval, default_marginal, default_pass,
    default_ready_within,
};
use crate::name::{ClusterName, ContainerName, ServiceName};
use crate::plan::{Plan, Step};
use crate::weight::{Split, Weight};

/// A plan with more steps is a mistake, and the state that travels through the execution has a limit.
const MOST_STEPS: usize = 100;
/// A week, in seconds.
const WEEK: u64 = 604_800;
/// What a Step Functions execution may have (25,000 events), less what is not checks.
const MOST_CHECK_EVENTS: u64 = 22_000;
/// A check is a Wait (2 events), a task (5) and a Choice (2).
const EVENTS_PER_CHECK: u64 = 9;
/// How many events a deployment that may wait needs more: at most 201 calls of the planner, which are nine each.
const WAITING_EVENTS: u64 = 2_000;
/// CloudWatch answers nothing for periods below a minute from more than three hours ago (`MetricStat`, `Period`); less some
/// time for waiting.
const LONGEST_HIGH_RESOLUTION_HOLD: u32 = 9000;

pub(super) const REQUEST_FIELDS: &[&str] = &[
    "cluster",
    "service",
    "image",
    "images",
    "taskDefinition",
    "imageDefinitions",
    "imageDetail",
    "container",
    "router",
    "plan",
    "capacity",
    "checks",
    "finish",
    "onUnhealthy",
    "freeze",
    "leftovers",
    "onConflict",
    "ifUnchanged",
    "window",
    "maxWaitSeconds",
    "readyWithinSeconds",
    "deadlineSeconds",
];
pub(super) const PLAN_FIELDS: &[&str] = &[
    "steps",
    "stepPercent",
    "intervalSeconds",
    "preset",
    "maxWeightPercent",
];
pub(super) const CHECKS_FIELDS: &[&str] = &[
    "intervalSeconds",
    "settleSeconds",
    "periodSeconds",
    "dataDelaySeconds",
    "failuresAllowed",
    "failuresInARow",
    "minRequests",
    "onTooLittleData",
    "errorRatePercent",
    "latencyMs",
    "alarms",
    "queries",
    "judge",
];
pub(super) const WINDOW_FIELDS: &[&str] = &["days", "hours", "timeZone", "outside", "override"];
pub(super) const JUDGE_FIELDS: &[&str] = &[
    "falseAlarm",
    "margin",
    "detect",
    "warmUpSeconds",
    "extend",
    "baseline",
    "latency",
    "kayenta",
];
const SOURCES: &[&str] = &[
    "image",
    "images",
    "taskDefinition",
    "imageDefinitions",
    "imageDetail",
];

impl Request {
    /// Reads a request from JSON.
    ///
    /// # Errors
    /// [`Faults`]: every fault at once, each with its path.
    pub fn parse(value: &Value) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let request = request(&mut faults, value);
        match request {
            Some(request) if faults.0.is_empty() => {
                request.check_times(&mut faults);
                if faults.0.is_empty() {
                    Ok(request)
                } else {
                    Err(faults)
                }
            }
            _ => Err(faults),
        }
    }

    /// The rules that only a whole request can be held against.
    fn check_times(&self, faults: &mut Faults) {
        let plan = self.resolve_plan();
        // A step lasts its hold, or until one period can be measured, and then until the last datapoint is complete.
        let (settle, period) = (
            u64::from(self.checks.settle_seconds),
            u64::from(self.checks.period_seconds),
        );
        let delay = u64::from(self.checks.data_delay());
        let steps = plan
            .steps()
            .iter()
            .map(|step| u64::from(step.hold_seconds).max(settle + period) + delay);
        let needed = steps.sum::<u64>() + u64::from(self.finish.keep_canary_seconds);
        if needed >= u64::from(self.deadline_seconds) {
            faults.add(
                "deadlineSeconds",
                format!(
                    "{} is too short: the plan's steps alone take {needed} seconds",
                    self.deadline_seconds
                ),
            );
        }
        let longest = plan
            .steps()
            .iter()
            .map(|step| step.hold_seconds)
            .max()
            .unwrap_or_default();
        let longest = longest.saturating_add(self.finish.keep_canary_seconds);
        if period < 60 && longest > LONGEST_HIGH_RESOLUTION_HOLD {
            faults.add(
                "checks.periodSeconds",
                format!(
                    "{period} does not go with a hold of {longest} seconds: CloudWatch keeps periods below a minute for three hours; 60 is allowed, or a hold of at most {LONGEST_HIGH_RESOLUTION_HOLD}"
                ),
            );
        }
        if period < 60
            && self.checks.judge.is_some()
            && self.deadline_seconds > LONGEST_HIGH_RESOLUTION_HOLD
        {
            faults.add(
                "checks.periodSeconds",
                format!(
                    "{period} does not go with a comparison over {} seconds: CloudWatch keeps periods below a minute for three hours; 60 is allowed, or deadlineSeconds of at most {LONGEST_HIGH_RESOLUTION_HOLD}, or checks.judge: null",
                    self.deadline_seconds
                ),
            );
        }
        let has_baseline = self
            .checks
            .judge
            .as_ref()
            .is_some_and(|judge| judge.baseline);
        let serves =
            |step: &Step| Split::with_baseline(step.weight_percent).of_baseline() > Weight::ZERO;
        if has_baseline && !plan.steps().iter().any(serves) {
            faults.add(
                "checks.judge.baseline",
                "true, but the baseline would get no traffic: it has the canary's weight below 50 percent, and the plan has no such step",
            );
        }
        let checks = u64::from(self.deadline_seconds) / u64::from(self.checks.interval_seconds);
        let events = MOST_CHECK_EVENTS - if self.may_wait() { WAITING_EVENTS } else { 0 };
        if checks * EVENTS_PER_CHECK > events {
            let least = (u64::from(self.deadline_seconds) * EVENTS_PER_CHECK).div_ceil(events);
            faults.add(
                "checks.intervalSeconds",
                format!(
                    "{} is too short for a deadline of {} seconds: an execution has at most 25000 events; at least {least} is needed",
                    self.checks.interval_seconds, self.deadline_seconds
                ),
            );
        }
        if let Some(wait) = self.max_wait_seconds {
            let left = LONGEST_DEADLINE_SECONDS - self.deadline_seconds;
            if !self.may_wait() {
                faults.add(
                    "maxWaitSeconds",
                    "only means something with onConflict: queue or supersede, or with a window outside of which the deployment waits",
                );
            } else if wait > left {
                faults.add(
                    "maxWaitSeconds",
                    format!(
                        "{wait} is too long: with deadlineSeconds, {}, it is above {LONGEST_DEADLINE_SECONDS}; at most {left} is allowed",
                        self.deadline_seconds
                    ),
                );
            }
        }
        self.check_holds(faults);
    }

    /// A hold that ends before anything can be measured would never be judged. Presets have CodeDeploy's times, so theirs
    /// are lengthened instead, which the plan's notes say.
    fn check_holds(&self, faults: &mut Faults) {
        let least = self.checks.settle_seconds + self.checks.period_seconds;
        let too_short = |hold: u32| {
            format!(
                "{hold} leaves nothing to judge: checks.settleSeconds {} and one period of {} seconds need at least {least}",
                self.checks.settle_seconds, self.checks.period_seconds
            )
        };
        let Some(plan) = &self.plan else { return };
        for (index, step) in plan
            .steps
            .iter()
            .flatten()
            .enumerate()
            .filter(|(_, step)| step.hold_seconds < least)
        {
            faults.add(
                format!("plan.steps[{index}].holdSeconds"),
                too_short(step.hold_seconds),
            );
        }
        if let Some(hold) = plan.interval_seconds.filter(|hold| *hold < least) {
            faults.add("plan.intervalSeconds", too_short(hold));
        }
    }
}

fn request(faults: &mut Faults, value: &Value) -> Option<Request> {
    let object = Object::read(faults, "", value, REQUEST_FIELDS)?;
    let cluster = object
        .need_text(faults, "cluster", "the name of an ECS cluster")
        .filter(|name| is_name(faults, "cluster", name));
    let service = object
        .need_text(faults, "service", "the name of an ECS service")
        .filter(|name| is_name(faults, "service", name));

    needs_one_source(faults, &object);

    let image = object
        .text(faults, "image")
        .filter(|image| is_image(faults, "image", image));
    let images = object.get("images").and_then(|value| images(faults, value));
    let task_definition = object
        .text(faults, "taskDefinition")
        .filter(|name| names_a_revision(faults, name));
    let image_definitions = object
        .list(faults, "imageDefinitions", 100)
        .map(|elements| image_definitions(faults, &elements));
    let image_detail = object
        .get("imageDetail")
        .and_then(|value| image_detail(faults, value));
    let container = object.text(faults, "container").map(ContainerName::new);
    let router = object.get("router").and_then(|value| router(faults, value));
    let plan = object.get("plan").and_then(|value| plan(faults, value));
    let capacity = object
        .get("capacity")
        .and_then(|value| capacity(faults, value))
        .unwrap_or_default();
    let checks = object
        .get("checks")
        .and_then(|value| checks(faults, value))
        .unwrap_or_default();
    let finish = object
        .get("finish")
        .and_then(|value| finish(faults, value))
        .unwrap_or_default();
    let on_unhealthy = object
        .choice::<OnUnhealthy>(faults, "onUnhealthy")
        .unwrap_or_default();
    if object.has("freeze") && on_unhealthy != OnUnhealthy::Freeze {
        faults.add("freeze", "only means something with onUnhealthy: freeze");
    }
    let freeze = object
        .get("freeze")
        .and_then(|value| freeze(faults, value))
        .unwrap_or_default();
    let leftovers = object
        .choice::<Leftovers>(faults, "leftovers")
        .unwrap_or_default();
    let on_conflict = object
        .choice::<OnConflict>(faults, "onConflict")
        .unwrap_or_default();
    let if_unchanged = object
        .choice::<IfUnchanged>(faults, "ifUnchanged")
        .unwrap_or_default();
    let window = object.get("window").and_then(|value| window(faults, value));
    let max_wait_seconds = object.whole(
        faults,
        "maxWaitSeconds",
        60,
        LONGEST_DEADLINE_SECONDS.into(),
    );
    let ready_within_seconds = object
        .whole(faults, "readyWithinSeconds", 30, 86_400)
        .unwrap_or_else(default_ready_within);
    let deadline_seconds = object
        .whole(
            faults,
            "deadlineSeconds",
            60,
            LONGEST_DEADLINE_SECONDS.into(),
        )
        .unwrap_or_else(default_deadline);

    Some(Request {
        cluster: ClusterName::new(cluster?),
        service: ServiceName::new(service?),
        image,
        images,
        task_definition,
        image_definitions,
        image_detail,
        container,
        router,
        plan,
        capacity,
        checks,
        finish,
        on_unhealthy,
        freeze,
        leftovers,
        on_conflict,
        if_unchanged,
        window,
        max_wait_seconds,
        ready_within_seconds,
        deadline_seconds,
    })
}

fn window(faults: &mut Faults, value: &Value) -> Option<ChangeWindow> {
    let object = Object::read(faults, "window", value, WINDOW_FIELDS)?;
    let mut days = Vec::new();
    for (path, value) in object.list(faults, "days", 7).unwrap_or_default() {
        match choice::<Day>(faults, &path, value) {
            Some(day) if days.contains(&day) => {
                faults.add(path, format!("{} is named twice", shown(value)));
            }
            day => days.extend(day),
        }
    }
    let mut hours = None;
    if let Some(text) = object.text(faults, "hours") {
        match Hours::try_from(text) {
            Ok(read) => hours = Some(read),
            Err(error) => faults.add("window.hours", error.to_string()),
        }
    }
    if !object.has("days") && !object.has("hours") {
        faults.add("window", "is always open; days, hours or both are needed");
    }
    let zone = object.need_text(
        faults,
        "timeZone",
        "a time zone as Europe/Berlin, in which days and hours are meant,",
    )?;
    let time_zone = match Zone::try_from(zone) {
        Ok(zone) => Some(zone),
        Err(error) => {
            faults.add("window.timeZone", error.to_string());
            None
        }
    };
    let outside = object
        .choice::<Outside>(faults, "outside")
        .unwrap_or_default();
    let overridden = object.text(faults, "override");
    Some(ChangeWindow {
        days,
        hours,
        time_zone: time_zone?,
        outside,
        overridden,
    })
}

/// What is to be deployed is said once.
fn needs_one_source(faults: &mut Faults, object: &Object) {
    let sources: Vec<_> = SOURCES.iter().filter(|field| object.has(field)).collect();
    match sources.as_slice() {
        [] => faults.add(
            "image",
            format!("missing; one of {} is needed", SOURCES.join(", ")),
        ),
        [_] => {}
        [first, rest @ ..] => {
            for field in rest {
                faults.add(
                    **field,
                    format!(
                        "given beside {first}; exactly one of {} is allowed",
                        SOURCES.join(", ")
                    ),
                );
            }
        }
    }
    if object.has("container") && !object.has("image") && !object.has("imageDetail") {
        faults.add(
            "container",
            "only says which container image or imageDetail is for; neither is given",
        );
    }
}

/// ECS: up to 255 letters, numbers, underscores and hyphens.
fn is_name(faults: &mut Faults, path: &str, name: &str) -> bool {
    let shown = shown(&Value::from(name));
    if name.starts_with("arn:") {
        faults.add(
            path,
            format!("{shown} is an ARN; the name alone is expected"),
        );
        return false;
    }
    let legal = name.len() <= 255
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if !legal {
        faults.add(path, format!("{shown} is no name; up to 255 letters, numbers, hyphens and underscores are allowed"));
    }
    legal
}

fn is_image(faults: &mut Faults, path: &str, image: &str) -> bool {
    let shown = shown(&Value::from(image));
    if image.contains("://") {
        faults.add(
            path,
            format!("{shown} is a URL; an image is named without its scheme"),
        );
        return false;
    }
    let legal = image.len() <= 1024 && image.chars().all(|c| c.is_ascii_graphic());
    if !legal {
        faults.add(
            path,
            format!("{shown} is no image; repository:tag or repository@sha256:... is expected"),
        );
    }
    legal
}

fn names_a_revision(faults: &mut Faults, name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    let legal = last.rsplit_once(':').is_some_and(|(family, revision)| {
        !family.is_empty() && revision.parse::<u32>().is_ok_and(|revision| revision > 0)
    });
    if !legal {
        faults.add(
            "taskDefinition",
            format!(
                "{} names no revision; family:revision is expected",
                shown(&Value::from(name))
            ),
        );
    }
    legal
}

fn images(faults: &mut Faults, value: &Value) -> Option<BTreeMap<ContainerName, String>> {
    let Some(map) = value.as_object() else {
        faults.add(
            "images",
            expected(value, "an object of container names and images"),
        );
        return None;
    };
    if map.is_empty() {
        faults.add("images", "the object is empty; name at least one container");
        return None;
    }
    let mut images = BTreeMap::new();
    for (container, value) in map {
        let path = format!("images.{container}");
        if let Some(image) =
            text(faults, &path, value).filter(|image| is_image(faults, &path, image))
        {
            images.insert(ContainerName::new(container), image);
        }
    }
    Some(images)
}

fn image_definitions(faults: &mut Faults, elements: &[(String, &Value)]) -> Vec<ImageDefinition> {
    let mut definitions: Vec<ImageDefinition> = Vec::new();
    for (path, element) in elements {
        let Some(object) = Object::read(faults, path, element, &["name", "imageUri"]) else {
            continue;
        };
        let name = object.need_text(faults, "name", "the container's name");
        let image_uri = object.need_text(faults, "imageUri", "the image");
        if let (Some(name), Some(image_uri)) = (name, image_uri) {
            if definitions
                .iter()
                .any(|earlier| earlier.name.as_str() == name)
            {
                faults.add(object.path_of("name"), format!("{name:?} is named twice"));
            }
            if is_image(faults, &object.path_of("imageUri"), &image_uri) {
                definitions.push(ImageDefinition {
                    name: ContainerName::new(name),
                    image_uri,
                });
            }
        }
    }
    definitions
}

fn image_detail(faults: &mut Faults, value: &Value) -> Option<ImageDetail> {
    // CodePipeline's ECR source writes more fields beside it (ImageTags, RepositoryName, ...): the file is taken as it is.
    let Some(map) = value.as_object() else {
        faults.add("imageDetail", expected(value, "an object"));
        return None;
    };
    let Some(uri) = map.get("ImageURI") else {
        faults.add("imageDetail.ImageURI", "missing; the image is needed");
        return None;
    };
    let image_uri = text(faults, "imageDetail.ImageURI", uri)?;
    is_image(faults, "imageDetail.ImageURI", &image_uri).then_some(ImageDetail { image_uri })
}

fn router(faults: &mut Faults, value: &Value) -> Option<RouterWish> {
    let object = Object::read(
        faults,
        "router",
        value,
        &["kind", "proxyContainer", "routes", "rules"],
    )?;
    object.need(faults, "kind", "the kind of router")?;
    let kind = object.choice(faults, "kind");
    let foreign: &[&str] = match kind {
        Some(RouterKind::Alb) => &["proxyContainer", "routes"],
        Some(RouterKind::AppMesh) => &["rules"],
        None => &[],
    };
    for field in foreign.iter().filter(|field| object.has(field)) {
        faults.add(
            object.path_of(field),
            format!(
                "means nothing to {}; it is for {}",
                kind.map_or_else(String::new, |kind| kind.to_string()),
                if *field == "rules" {
                    RouterKind::Alb
                } else {
                    RouterKind::AppMesh
                }
            ),
        );
    }
    let proxy_container = object.text(faults, "proxyContainer");
    let routes = object.list(faults, "routes", 100).map(|elements| {
        let mut routes: Vec<RouteName> = Vec::new();
        for (path, element) in elements {
            let Some(route) = Object::read(faults, &path, element, &["virtualRouter", "route"])
            else {
                continue;
            };
            let virtual_router =
                route.need_text(faults, "virtualRouter", "the virtual router's name");
            let name = route.need_text(faults, "route", "the route's name");
            if let (Some(virtual_router), Some(route)) = (virtual_router, name) {
                let name = RouteName {
                    virtual_router,
                    route,
                };
                if routes.contains(&name) {
                    faults.add(path, "named twice");
                } else {
                    routes.push(name);
                }
            }
        }
        routes
    });
    let rules = object
        .list(faults, "rules", 100)
        .map(|elements| rules(faults, &elements));
    Some(RouterWish {
        kind: kind?,
        proxy_container,
        routes,
        rules,
    })
}

/// The ARNs of listener rules, and of listeners for their default actions.
fn rules(faults: &mut Faults, elements: &[(String, &Value)]) -> Vec<String> {
    let mut rules: Vec<String> = Vec::new();
    for (path, element) in elements {
        let Some(arn) = text(faults, path, element) else {
            continue;
        };
        let legal = arn.starts_with("arn:")
            && (arn.contains(":listener/") || arn.contains(":listener-rule/"));
        if !legal {
            faults.add(
                path,
                format!(
                    "{} is no ARN of a listener rule, nor of a listener, which stands for its default action",
                    shown(element)
                ),
            );
        } else if rules.contains(&arn) {
            faults.add(path, "named twice");
        } else {
            rules.push(arn);
        }
    }
    rules
}

fn plan(faults: &mut Faults, value: &Value) -> Option<PlanRequest> {
    let object = Object::read(faults, "plan", value, PLAN_FIELDS)?;
    let before = faults.0.len();
    let linear = object.has("stepPercent") || object.has("intervalSeconds");
    match (object.has("steps"), linear, object.has("preset")) {
        (true, false, false) | (false, false, true) => {}
        (false, true, false) => {
            object.need(faults, "stepPercent", "the size of each step");
            object.need(faults, "intervalSeconds", "how long each step is held");
        }
        (false, false, false) => faults.add("plan", "says nothing; steps, stepPercent with intervalSeconds, or preset is needed"),
        _ => faults.add("plan", "mixes the forms; exactly one of steps, stepPercent with intervalSeconds, and preset is allowed"),
    }
    if object.has("preset") && object.has("maxWeightPercent") {
        faults.add(
            "plan.maxWeightPercent",
            "given beside preset; a preset always ends at 100",
        );
    }
    let max_weight_percent = object.weight(faults, "maxWeightPercent");
    let steps = object
        .list(faults, "steps", MOST_STEPS)
        .map(|elements| steps(faults, &elements));
    let step_percent = object.weight(faults, "stepPercent");
    let interval_seconds = object.whole(faults, "intervalSeconds", 1, WEEK);
    let preset = object.choice(faults, "preset");
    let plan = PlanRequest {
        steps,
        step_percent,
        interval_seconds,
        preset,
        max_weight_percent,
    };
    if faults.0.len() > before {
        return None;
    }

    let max = plan.max_weight_percent.unwrap_or(Weight::FULL);
    if let Some(steps) = &plan.steps {
        steps_increase_to(faults, steps, max, plan.max_weight_percent.is_some());
    }
    if let Some(step) = plan.step_percent {
        if step > max {
            faults.add(
                "plan.stepPercent",
                format!("{step} is above plan.maxWeightPercent, {max}"),
            );
        }
        let count = Plan::linear(step, max, 1).map_or(0, |plan| plan.steps().len());
        if count > MOST_STEPS {
            faults.add(
                "plan.stepPercent",
                format!("{step} gives {count} steps; at most {MOST_STEPS} are allowed"),
            );
        }
    }
    (faults.0.len() == before).then_some(plan)
}

fn steps(faults: &mut Faults, elements: &[(String, &Value)]) -> Vec<StepRequest> {
    let mut steps = Vec::new();
    for (path, element) in elements {
        let Some(object) = Object::read(faults, path, element, &["weightPercent", "holdSeconds"])
        else {
            continue;
        };
        let weight_percent = object
            .need(faults, "weightPercent", "the canary's share in percent")
            .and_then(|value| weight(faults, &object.path_of("weightPercent"), value));
        let hold_seconds = object
            .need(faults, "holdSeconds", "how long it is held, in seconds,")
            .and_then(|value| whole(faults, &object.path_of("holdSeconds"), value, 1, WEEK));
        if let (Some(weight_percent), Some(hold_seconds)) = (weight_percent, hold_seconds) {
            steps.push(StepRequest {
                weight_percent,
                hold_seconds,
            });
        }
    }
    steps
}

fn steps_increase_to(faults: &mut Faults, steps: &[StepRequest], max: Weight, max_is_given: bool) {
    let mut before = Weight::ZERO;
    for (index, step) in steps.iter().enumerate() {
        if step.weight_percent <= before {
            faults.add(
                format!("plan.steps[{index}].weightPercent"),
                format!(
                    "{} is not above {before}, the weight of the step before",
                    step.weight_percent
                ),
            );
        }
        before = step.weight_percent;
    }
    if before != max {
        let why = if max_is_given {
            format!("{before} is not plan.maxWeightPercent, {max}, where the last step must end")
        } else {
            format!(
                "{before} is not 100, where the last step must end; plan.maxWeightPercent says that promotion happens from below"
            )
        };
        faults.add(
            format!("plan.steps[{}].weightPercent", steps.len() - 1),
            why,
        );
    }
}

fn capacity(faults: &mut Faults, value: &Value) -> Option<Capacity> {
    match value {
        Value::String(name) if name == "matchWeight" => Some(Capacity::MatchWeight),
        Value::String(name) if name == "full" => Some(Capacity::Full),
        Value::Object(_) => {
            let object = Object::read(faults, "capacity", value, &["tasks"])?;
            object.need(faults, "tasks", "a number of tasks")?;
            object.whole(faults, "tasks", 1, 5000).map(Capacity::Tasks)
        }
        _ => {
            faults.add(
                "capacity",
                format!(
                    r#"{} is not known; "matchWeight", "full" or {{"tasks": n}} is expected"#,
                    shown(value)
                ),
            );
            None
        }
    }
}

fn checks(faults: &mut Faults, value: &Value) -> Option<Checks> {
    let object = Object::read(faults, "checks", value, CHECKS_FIELDS)?;
    let mut checks = Checks::default();
    if let Some(seconds) = object.whole(faults, "periodSeconds", 10, 3600) {
        if is_period(seconds) {
            checks.period_seconds = seconds;
        } else {
            faults.add(
                "checks.periodSeconds",
                format!("{seconds} is no CloudWatch period; 10, 30 or a multiple of 60 is allowed"),
            );
        }
    }
    if let Some(seconds) = object.whole(faults, "intervalSeconds", 5, 3600) {
        checks.interval_seconds = seconds;
    }
    if checks.interval_seconds < checks.period_seconds {
        faults.add(
            "checks.intervalSeconds",
            format!(
                "{} is below checks.periodSeconds, {}: a check would see nothing new",
                checks.interval_seconds, checks.period_seconds
            ),
        );
    }
    checks.settle_seconds = object
        .whole(faults, "settleSeconds", 0, 3600)
        .unwrap_or(checks.settle_seconds);
    checks.data_delay_seconds = object.whole(faults, "dataDelaySeconds", 0, 900);
    checks.failures_allowed = object
        .whole(faults, "failuresAllowed", 0, 100)
        .unwrap_or(checks.failures_allowed);
    checks.failures_in_a_row = object.whole(faults, "failuresInARow", 1, 100);
    let allowed = checks.failures_allowed;
    if let Some(row) = checks.failures_in_a_row.filter(|row| *row > allowed) {
        faults.add(
            object.path_of("failuresInARow"),
            format!("{row} is above failuresAllowed, {allowed}, so it would never be reached"),
        );
    }
    checks.min_requests = object
        .whole(faults, "minRequests", 1, 1_000_000_000)
        .unwrap_or(checks.min_requests);
    checks.on_too_little_data = object
        .choice::<OnTooLittleData>(faults, "onTooLittleData")
        .unwrap_or_default();
    match object.get("errorRatePercent") {
        None => {}
        Some(Value::Null) => checks.error_rate_percent = None,
        Some(value) => checks.error_rate_percent = max_percent(faults, value),
    }
    if let Some(elements) = object.list(faults, "latencyMs", 20) {
        checks.latency_ms = elements
            .iter()
            .filter_map(|(path, element)| latency(faults, path, element))
            .collect();
    }
    if let Some(elements) = object.list(faults, "alarms", 100) {
        checks.alarms = alarms(faults, &elements);
    }
    if let Some(elements) = object.list(faults, "queries", 20) {
        checks.queries = queries(faults, &elements);
    }
    match object.get("judge") {
        // Whoever has no use for the counts of requests has none for comparing them.
        None if object.get("errorRatePercent").is_some_and(Value::is_null) => checks.judge = None,
        None => {}
        Some(Value::Null) => checks.judge = None,
        Some(value) => checks.judge = judge(faults, value),
    }
    let limitless = object.get("errorRatePercent").is_some_and(Value::is_null);
    if limitless
        && !object.get("judge").is_some_and(Value::is_object)
        && !object.has("alarms")
        && !object.has("queries")
        && !object.has("latencyMs")
    {
        faults.add(
            "checks.errorRatePercent",
            "null leaves nothing to judge the canary by; name an alarm, a query or a limit on latency instead",
        );
    }
    Some(checks)
}

fn judge(faults: &mut Faults, value: &Value) -> Option<Judge> {
    let object = Object::read(faults, "checks.judge", value, JUDGE_FIELDS)?;
    let default = Judge::default();
    let false_alarm = object
        .number(faults, "falseAlarm", 0.0001, 0.2)
        .unwrap_or(default.false_alarm);
    let margin = object
        .number(faults, "margin", 1.0, 10.0)
        .unwrap_or(default.margin);
    let detect = match object.get("detect") {
        None => default.detect,
        Some(value) => detect(faults, value, margin)?,
    };
    let warm_up_seconds = object
        .whole(faults, "warmUpSeconds", 0, 3600)
        .unwrap_or(default.warm_up_seconds);
    let extend = object.choice(faults, "extend").unwrap_or(default.extend);
    let baseline = object.flag(faults, "baseline").unwrap_or(default.baseline);
    let latency = object.flag(faults, "latency").unwrap_or(default.latency);
    let beside_errors = object
        .get("kayenta")
        .is_some_and(|kayenta| kayenta["besideErrors"] == true);
    if beside_errors && baseline {
        faults.add(
            object.path_of("kayenta.besideErrors"),
            "true, but beside a baseline Kayenta's judge ends with it, and the comparison of errors does not; only one of the two is allowed",
        );
    }
    for field in ["falseAlarm", "margin", "detect", "latency"] {
        if object.has(field) && object.has("kayenta") && !beside_errors {
            faults.add(
                object.path_of(field),
                "given beside kayenta, which judges in its own way",
            );
        }
    }
    let kayenta = match object.get("kayenta") {
        None => None,
        Some(value) => Some(kayenta(faults, value)?),
    };
    Some(Judge {
        false_alarm,
        margin,
        detect,
        warm_up_seconds,
        extend,
        baseline,
        latency,
        kayenta,
    })
}

/// How many metrics a Kayenta configuration may have: with twenty parts each, and both sides asked, they fit into one call.
const MOST_KAYENTA_QUERIES: usize = 200;

fn kayenta(faults: &mut Faults, value: &Value) -> Option<Kayenta> {
    let fields = [
        "config",
        "pass",
        "marginal",
        "intervalSeconds",
        "lookBackSeconds",
        "repairs",
        "besideErrors",
    ];
    let object = Object::read(faults, "checks.judge.kayenta", value, &fields)?;
    let config = object.need(faults, "config", "a canary configuration")?;
    kayenta_queries(faults, &object.path_of("config"), config);
    let pass = object
        .number(faults, "pass", 0.0, 100.0)
        .unwrap_or_else(default_pass);
    let marginal = object
        .number(faults, "marginal", 0.0, 100.0)
        .unwrap_or_else(default_marginal);
    if marginal > pass {
        faults.add(
            object.path_of("marginal"),
            format!("{marginal} is above pass, {pass}"),
        );
    }
    let interval_seconds = object
        .whole(faults, "intervalSeconds", 60, 86_400)
        .unwrap_or_else(default_kayenta_interval);
    let look_back_seconds = object.whole(faults, "lookBackSeconds", 60, WEEK);
    let repairs = object
        .get("repairs")
        .map(|value| repairs(faults, &object.path_of("repairs"), value))
        .unwrap_or_default();
    let kayenta = Kayenta {
        config: config.clone(),
        pass,
        marginal,
        interval_seconds,
        look_back_seconds,
        repairs,
        beside_errors: object.flag(faults, "besideErrors").unwrap_or_default(),
    };
    let queries = kayenta.queries();
    let parts: usize = queries
        .iter()
        .map(|query| query.metric_data_queries.len())
        .sum();
    if parts > MOST_KAYENTA_QUERIES {
        faults.add(
            object.path_of("config.metrics"),
            format!("{parts} CloudWatch queries; at most {MOST_KAYENTA_QUERIES} are allowed"),
        );
    }
    Some(kayenta)
}

fn repairs(faults: &mut Faults, path: &str, value: &Value) -> Repairs {
    let fields = ["fewPoints", "scaleFree", "errorsFail", "autocorrelation"];
    let Some(object) = Object::read(faults, path, value, &fields) else {
        return Repairs::default();
    };
    let mut is_on = |field| object.flag(faults, field).unwrap_or_default();
    Repairs {
        few_points: is_on("fewPoints"),
        scale_free: is_on("scaleFree"),
        errors_fail: is_on("errorsFail"),
        autocorrelation: is_on("autocorrelation"),
    }
}

fn detect(faults: &mut Faults, value: &Value, margin: f64) -> Option<Detect> {
    let object = Object::read(faults, "checks.judge.detect", value, &["ratio", "points"])?;
    if object.has("ratio") == object.has("points") {
        faults.add(
            "checks.judge.detect",
            "exactly one of ratio and points is needed",
        );
        return None;
    }
    if let Some(points) = object.number(faults, "points", 0.01, 100.0) {
        return Some(Detect::Points(points));
    }
    let ratio = object.number(faults, "ratio", 1.0, 1000.0)?;
    let least = (margin * LEAST_SEEN * 1000.0).round() / 1000.0;
    if ratio < least {
        faults.add(
            "checks.judge.detect.ratio",
            format!("{ratio} is too near to checks.judge.margin, {margin}, up to which the canary is not called worse; at least {least} is allowed"),
        );
        return None;
    }
    Some(Detect::Ratio(ratio))
}

pub(super) const fn is_period(seconds: u32) -> bool {
    matches!(seconds, 10 | 30) || seconds.is_multiple_of(60)
}

fn max_percent(faults: &mut Faults, value: &Value) -> Option<MaxPercent> {
    let object = Object::read(faults, "checks.errorRatePercent", value, &["max"])?;
    object.need(faults, "max", "the highest error rate in percent")?;
    object
        .number(faults, "max", 0.0, 100.0)
        .map(|max| MaxPercent { max })
}

fn latency(faults: &mut Faults, path: &str, value: &Value) -> Option<LatencyLimit> {
    let object = Object::read(faults, path, value, &["percentile", "max", "margin"])?;
    let percentile = object
        .need(faults, "percentile", "a percentile")
        .and_then(|value| {
            let path = object.path_of("percentile");
            let percentile = number(faults, &path, value, 0.0, 100.0)?;
            if percentile <= 0.0 || percentile >= 100.0 {
                faults.add(
                    path,
                    format!("{value} is no percentile; above 0 and below 100 is allowed"),
                );
                return None;
            }
            Some(percentile)
        });
    let max = object
        .need(faults, "max", "the highest latency in milliseconds")
        .and_then(|value| number(faults, &object.path_of("max"), value, 0.001, 3_600_000.0));
    let margin = object.number(faults, "margin", 1.0, 10.0);
    Some(LatencyLimit {
        percentile: percentile?,
        max: max?,
        margin,
    })
}

fn alarms(faults: &mut Faults, elements: &[(String, &Value)]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (path, element) in elements {
        let Some(name) = text(faults, path, element) else {
            continue;
        };
        if name.len() > 255 {
            faults.add(
                path,
                format!(
                    "{} has {} characters; at most 255 are allowed",
                    shown(element),
                    name.len()
                ),
            );
        } else if names.contains(&name) {
            faults.add(path, format!("{} is named twice", shown(element)));
        } else {
            names.push(name);
        }
    }
    names
}

fn finish(faults: &mut Faults, value: &Value) -> Option<Finish> {
    let object = Object::read(faults, "finish", value, &["mode", "keepCanarySeconds"])?;
    let mode = object
        .choice::<FinishMode>(faults, "mode")
        .unwrap_or_default();
    let keep_canary_seconds = object
        .whole(faults, "keepCanarySeconds", 0, WEEK)
        .unwrap_or_default();
    Some(Finish {
        mode,
        keep_canary_seconds,
    })
}

fn freeze(faults: &mut Faults, value: &Value) -> Option<Freeze> {
    let object = Object::read(faults, "freeze", value, &["holdAt", "forSeconds", "then"])?;
    let default = Freeze::default();
    let hold_at = object.choice(faults, "holdAt").unwrap_or(default.hold_at);
    let for_seconds = object
        .whole(faults, "forSeconds", 60, LONGEST_DEADLINE_SECONDS.into())
        .unwrap_or(default.for_seconds);
    let then = object.choice(faults, "then").unwrap_or(default.then);
    Some(Freeze {
        hold_at,
        for_seconds,
        then,
    })
}
