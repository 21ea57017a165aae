//! The deployment request: the execution's input, as a person or a pipeline writes it.
//!
//! [`Request::parse`] checks all of it and reports all faults at once, each with its path, before anything is created.
//! Nothing is clamped and nothing unknown is ignored.

mod fault;
mod parse;
mod queries;
mod reader;
mod resolve;
mod sample;
mod window;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use fault::{Fault, Faults};
pub use sample::{Read, read};
pub use window::{ChangeWindow, Day, Hours, HoursError, Outside, Zone, ZoneUnknown};

use crate::name::{ClusterName, ContainerName, ServiceName};
use crate::verdict::Limit;
use crate::weight::Weight;

/// What to deploy, how to shift, how to judge and how to finish. Only `cluster`, `service` and one source of the new
/// version are needed; everything else is discovered or has a stated default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "A Serin deployment request")]
pub struct Request {
    /// The ECS cluster's name.
    pub cluster: ClusterName,
    /// The ECS service's name.
    pub service: ServiceName,
    /// The new image of the application's container. One of image, images, taskDefinition, imageDefinitions, imageDetail is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The new images by container name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images: Option<BTreeMap<ContainerName, String>>,
    /// A task definition that already exists, as `family:revision` or ARN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_definition: Option<String>,
    /// The content of CodePipeline's imagedefinitions.json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_definitions: Option<Vec<ImageDefinition>>,
    /// The content of CodePipeline's imageDetail.json.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_detail: Option<ImageDetail>,
    /// Which container `image` is for. Default: the only essential container that is not a proxy or an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<ContainerName>,
    /// Where the traffic is shifted. Default: discovered from the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<RouterWish>,
    /// The steps. Default: 5, 25, 50 and 100 percent, five minutes each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanRequest>,
    /// How many tasks the canary gets.
    #[serde(default)]
    pub capacity: Capacity,
    /// How the canary is judged.
    #[serde(default)]
    pub checks: Checks,
    /// What happens after the last step.
    #[serde(default)]
    pub finish: Finish,
    /// What happens on an unhealthy verdict.
    #[serde(default)]
    pub on_unhealthy: OnUnhealthy,
    /// How a frozen deployment waits for a person's decision. Only with `onUnhealthy: freeze`.
    #[serde(default)]
    pub freeze: Freeze,
    /// What happens when an earlier deployment of the service has left something that a person should have put in order.
    #[serde(default)]
    pub leftovers: Leftovers,
    /// What happens while another deployment of the service runs.
    #[serde(default)]
    pub on_conflict: OnConflict,
    /// What happens when stable already runs just this version.
    #[serde(default)]
    pub if_unchanged: IfUnchanged,
    /// When the deployment may start. Default: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<ChangeWindow>,
    /// How long the deployment may wait for another one to end and for its window, in seconds. 60 to 518400, and with
    /// `deadlineSeconds` not above 518400. Default: three days, or what `deadlineSeconds` leaves of six.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 518_400))]
    pub max_wait_seconds: Option<u32>,
    /// How long the canary may take until all its tasks run and can be reached, in seconds. 30 to 86400.
    #[serde(default = "default_ready_within")]
    #[schemars(range(min = 30, max = 86_400))]
    pub ready_within_seconds: u32,
    /// How long the whole deployment may take, in seconds; then it is rolled back. 60 to 518400 (six days).
    #[serde(default = "default_deadline")]
    #[schemars(range(min = 60, max = 518_400))]
    pub deadline_seconds: u32,
}

/// Six days: below the seven after which CodePipeline gives up on an execution, which cannot be caught.
pub const LONGEST_DEADLINE_SECONDS: u32 = 518_400;

/// Three days: a deployment that was wanted on a Friday evening may start on Monday morning.
const USUAL_LONGEST_WAIT_SECONDS: u32 = 259_200;

const fn default_ready_within() -> u32 {
    900
}

const fn default_deadline() -> u32 {
    14_400
}

/// One entry of CodePipeline's imagedefinitions.json, in its own spelling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageDefinition {
    /// The container's name.
    pub name: ContainerName,
    /// The image.
    pub image_uri: String,
}

/// CodePipeline's imageDetail.json, in its own spelling.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageDetail {
    /// The image.
    #[serde(rename = "ImageURI")]
    pub image_uri: String,
}

/// Which router, and which of its objects where discovery finds more than one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouterWish {
    /// The router.
    pub kind: RouterKind,
    /// The container that is the Envoy proxy, if more than one could be. For appMesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_container: Option<String>,
    /// The routes to shift. Default: every route of the mesh that names stable's virtual node. For appMesh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<RouteName>>,
    /// The rules to shift, by their ARNs, a listener's default action by the listener's. Default: every rule and default action
    /// that forwards to stable's target groups. For alb.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<String>>,
}

/// The routers.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum RouterKind {
    /// Elastic Load Balancing: the Application Load Balancer, and the Network Load Balancer where it can do the same.
    Alb,
    /// AWS App Mesh.
    AppMesh,
}

/// One route of one virtual router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RouteName {
    /// The virtual router's name.
    pub virtual_router: String,
    /// The route's name.
    pub route: String,
}

/// The steps, in one of three forms: `steps`; `stepPercent` with `intervalSeconds`; `preset`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlanRequest {
    /// Each weight and how long it is held. Weights strictly increase and end at 100, or at maxWeightPercent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps: Option<Vec<StepRequest>>,
    /// Equal steps of this size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_percent: Option<Weight>,
    /// How long each equal step is held, in seconds. 1 to 604800.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub interval_seconds: Option<u32>,
    /// One of CodeDeploy's own plans for ECS, with the same weights and times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preset: Option<Preset>,
    /// Promotion happens from this weight instead of 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_weight_percent: Option<Weight>,
}

/// A weight, and how long it is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepRequest {
    /// The canary's share of traffic, in percent.
    pub weight_percent: Weight,
    /// How long it is held and watched, in seconds. 1 to 604800.
    #[schemars(range(min = 1, max = 604_800))]
    pub hold_seconds: u32,
}

/// CodeDeploy's predefined configurations for Amazon ECS.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
)]
pub enum Preset {
    /// 10 percent for 5 minutes, then all.
    ECSCanary10Percent5Minutes,
    /// 10 percent for 15 minutes, then all.
    ECSCanary10Percent15Minutes,
    /// 10 percent more every minute.
    ECSLinear10PercentEvery1Minutes,
    /// 10 percent more every 3 minutes.
    ECSLinear10PercentEvery3Minutes,
    /// All at once.
    ECSAllAtOnce,
}

/// How many tasks the canary gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Capacity {
    /// As many as its share of stable's, rounded up, before it gets that share.
    #[default]
    MatchWeight,
    /// As many as stable.
    Full,
    /// This many, at every weight.
    Tasks(u32),
}

/// How the canary is judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Checks {
    /// How often a check is made, in seconds. 5 to 3600, and not below periodSeconds.
    #[schemars(range(min = 5, max = 3600))]
    pub interval_seconds: u32,
    /// How long after a shift the measured window begins, in seconds: what the router needs to follow and the canary to warm up. 0 to 3600.
    #[schemars(range(max = 3600))]
    pub settle_seconds: u32,
    /// The metrics' period in seconds: 10 or 30 for high-resolution metrics, or a multiple of 60 up to 3600.
    #[schemars(range(min = 10, max = 3600))]
    pub period_seconds: u32,
    /// How old a datapoint must be to be complete, in seconds. 0 to 900. Default: two periods.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 900))]
    pub data_delay_seconds: Option<u32>,
    /// How many unhealthy checks the deployment survives. 0 to 100.
    #[schemars(range(max = 100))]
    pub failures_allowed: u32,
    /// How many unhealthy checks in a row it does not survive, of those that are allowed. 1 to `failuresAllowed`. Default: as many
    /// as that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub failures_in_a_row: Option<u32>,
    /// On how many of the canary's requests a verdict must rest. 1 to 1000000000.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub min_requests: u64,
    /// What happens when a step's hold is over and there is still too little data. It is never healthy.
    pub on_too_little_data: OnTooLittleData,
    /// The limit on the share of requests that the canary answers with 5xx. `null` turns it off, which needs an alarm, a query or a limit on latency in its place.
    pub error_rate_percent: Option<MaxPercent>,
    /// Limits on latency percentiles, from an Application Load Balancer's metrics. App Mesh's stock metrics and a Network Load Balancer's have none: use `queries` there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latency_ms: Vec<LatencyLimit>,
    /// CloudWatch alarms that must not be in ALARM.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<String>,
    /// CloudWatch queries and their limits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queries: Vec<Query>,
    /// The comparison of the canary's errors with stable's. `null` turns it off, and so does `errorRatePercent: null` unless this is given.
    pub judge: Option<Judge>,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            interval_seconds: 60,
            settle_seconds: 60,
            period_seconds: 60,
            data_delay_seconds: None,
            failures_allowed: 0,
            failures_in_a_row: None,
            min_requests: 50,
            on_too_little_data: OnTooLittleData::Wait,
            error_rate_percent: Some(MaxPercent { max: 1.0 }),
            latency_ms: Vec::new(),
            alarms: Vec::new(),
            queries: Vec::new(),
            judge: Some(Judge::default()),
        }
    }
}

impl Checks {
    /// Whether a version's requests must be counted: for their error rate, because a percentile rests on them, or to compare.
    pub fn counts_requests(&self) -> bool {
        self.error_rate_percent.is_some()
            || !self.latency_ms.is_empty()
            || self.judge.as_ref().is_some_and(Judge::compares_errors)
    }

    /// How old a datapoint must be to be complete: as the request says, or two periods.
    pub fn data_delay(&self) -> u32 {
        self.data_delay_seconds.unwrap_or(self.period_seconds * 2)
    }
}

/// How the canary is compared with stable, after every period of the metrics and over the whole deployment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Judge {
    /// The probability that a deployment of a good version is rolled back by the comparison, however often it looks. 0.0001 to 0.2.
    #[schemars(range(min = 0.0001, max = 0.2))]
    pub false_alarm: f64,
    /// How many times stable's rate of errors the canary may have without being called worse. 1 to 10.
    #[schemars(range(min = 1.0, max = 10.0))]
    pub margin: f64,
    /// The regression that must have been within sight before the comparison is content.
    pub detect: Detect,
    /// How long new tasks take to warm up, in seconds, in which only a disaster counts. 0 to 3600.
    #[schemars(range(max = 3600))]
    pub warm_up_seconds: u32,
    /// Which steps last until it would have been seen, or until Kayenta's last judgement.
    pub extend: Extend,
    /// Whether the canary is compared with a fresh copy of stable that starts with it, with as many tasks and the same weight,
    /// until the canary has half of the traffic. Otherwise, and from then on, it is compared with stable itself.
    #[serde(skip_serializing_if = "is_false")]
    pub baseline: bool,
    /// Whether the requests that take longer than stable's slowest tenth and hundredth took before the deployment are compared too,
    /// where the router measures how long they take. They can roll back; nothing waits for them.
    #[serde(skip_serializing_if = "is_true")]
    pub latency: bool,
    /// Kayenta's judge instead, with a canary configuration of one's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kayenta: Option<Kayenta>,
}

impl Judge {
    /// Whether errors are compared; otherwise Kayenta's judge is in their place.
    pub fn compares_errors(&self) -> bool {
        let kayenta = self.kayenta.as_ref();
        kayenta.is_none_or(|kayenta| kayenta.beside_errors)
    }

    /// Whether the request wants slow requests compared beside the errors.
    pub fn compares_latency(&self) -> bool {
        self.compares_errors() && self.latency
    }
}

/// Kayenta's judge, `NetflixACAJudge-v1.0`, as its standalone analysis runs it: the first judgement an interval after the warm-up,
/// then one after every interval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kayenta {
    /// The canary configuration as Kayenta exports it, with `"query": {"type": "cloudwatch", "metricDataQueries": [...]}` in the place
    /// of each metric's service. The placeholders of `queries` stand for the canary's names, and for stable's when stable is asked.
    pub config: serde_json::Value,
    /// A score below this fails the last judgement. 0 to 100.
    #[serde(default = "default_pass")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub pass: f64,
    /// A score of this or less fails any judgement. 0 to 100, at most `pass`.
    #[serde(default = "default_marginal")]
    #[schemars(range(min = 0.0, max = 100.0))]
    pub marginal: f64,
    /// How long from one judgement to the next, in seconds. 60 to 86400.
    #[serde(default = "default_kayenta_interval")]
    #[schemars(range(min = 60, max = 86_400))]
    pub interval_seconds: u32,
    /// How far back a judgement looks, in seconds. 60 to 604800. Default: to the end of the warm-up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 604_800))]
    pub look_back_seconds: Option<u32>,
    /// What is repaired in Kayenta's judge. Nothing by default, so that its verdicts are Kayenta's.
    #[serde(default)]
    pub repairs: Repairs,
    /// Whether it judges beside the comparison of errors instead of in its place: for gauges, as CPU or memory, and percentiles.
    #[serde(default, skip_serializing_if = "is_false")]
    pub beside_errors: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// What is as usual is not written: a version that does not know the field yet can still finish the deployment.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
const fn is_true(flag: &bool) -> bool {
    *flag
}

/// Kayenta's usual threshold for a pass.
pub(crate) const fn default_pass() -> f64 {
    95.0
}

/// Kayenta's usual threshold below which a judgement fails.
pub(crate) const fn default_marginal() -> f64 {
    75.0
}

pub(crate) const fn default_kayenta_interval() -> u32 {
    300
}

impl Kayenta {
    /// What is asked of CloudWatch for each metric, by the metric's name. A configuration that was not checked may give fewer.
    pub fn queries(&self) -> Vec<Query> {
        let metrics = self.config["metrics"].as_array().into_iter().flatten();
        let query = |metric: &serde_json::Value| {
            let parts = metric["query"]["metricDataQueries"].clone();
            Some(Query {
                name: metric["name"].as_str()?.to_owned(),
                metric_data_queries: serde_json::from_value(parts).ok()?,
                max: None,
                min: None,
                margin: None,
            })
        };
        metrics.filter_map(query).collect()
    }
}

/// What Serin repairs in Kayenta's judge when asked to. Every repair changes labels or scores, so none is on by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Repairs {
    /// Fewer than five points on a side are as none at all. Kayenta calls a fifth of healthy two-point metrics High or Low.
    pub few_points: bool,
    /// The interval is looked for to 1e-4 of the width in which it can lie, not of the metric's unit. Kayenta's verdict on a rate
    /// depends on whether it is given as a fraction or in percent.
    pub scale_free: bool,
    /// An `Error` is a failure of a metric that must have data, a critical one if the metric is critical. Kayenta leaves it out.
    pub errors_fail: bool,
    /// Values that resemble their predecessors count as fewer: the test's statistic is divided by sqrt((1 + r) / (1 - r)), where r
    /// is the lag-1 autocorrelation of both sides. A gauge that does nothing but wander (r = 0.8, 60 points, judged once) raises
    /// 29 false alarms in 100 without this and 1 with it. Noise on top of the wandering hides r, and then it helps less.
    pub autocorrelation: bool,
}

impl Default for Judge {
    fn default() -> Self {
        Self {
            false_alarm: 0.01,
            margin: 1.25,
            detect: Detect::Points(1.0),
            warm_up_seconds: 120,
            extend: Extend::default(),
            baseline: false,
            latency: true,
            kayenta: None,
        }
    }
}

/// How many times the margin a regression must be to be seen at all.
pub const LEAST_SEEN: f64 = 1.2;

/// A regression that matters, in one of two forms: `{"ratio": 2}` or `{"points": 1}`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Detect {
    /// So many times stable's rate of errors: at least 1.2 times the margin, up to 1000.
    Ratio(f64),
    /// So many percentage points above stable's rate of errors: 0.01 to 100. Where stable's rate is so high that this is less
    /// than 1.2 times the margin, that is looked for instead.
    Points(f64),
}

/// Which steps last until the comparison has seen enough.
///
/// A regression shows after a number of the canary's requests that does not depend on the weight. So the first steps need
/// not wait for the whole number, as long as none is taken whose traffic leaves nothing to compare with.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Extend {
    /// The last one at which stable still has traffic.
    #[default]
    LastStep,
    /// Each of them.
    EveryStep,
}

/// What happens when a step's hold is over and there is still too little data.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum OnTooLittleData {
    /// Go on waiting, until the deployment's deadline.
    #[default]
    Wait,
    /// Roll back.
    RollBack,
    /// Go on to the next step; the verdict stays inconclusive.
    Proceed,
}

/// An upper bound in percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MaxPercent {
    /// At most this, from 0 to 100.
    #[schemars(range(min = 0.0, max = 100.0))]
    pub max: f64,
}

/// A limit on one latency percentile.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LatencyLimit {
    /// The percentile, above 0 and below 100.
    pub percentile: f64,
    /// At most this many milliseconds.
    pub max: f64,
    /// How many times stable's own percentile in the same window is allowed although it is above `max`: the whole system is slow
    /// then. At 100 percent stable has none, and `max` holds. 1 to 10. Default: `max` holds whatever stable does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.0, max = 10.0))]
    pub margin: Option<f64>,
}

/// A CloudWatch query and its limit.
///
/// In every text of `metricDataQueries`, `{{clusterName}}`, `{{canaryFamily}}`, `{{canaryService}}`, and `{{targetGroup}}` and
/// `{{loadBalancer}}` (alb) or `{{virtualNode}}` (appMesh) stand for the canary's names. When several datapoints fall into the window, the worst one counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Query {
    /// What findings call it.
    pub name: String,
    /// As CloudWatch's `GetMetricData` takes them; exactly one returns data.
    pub metric_data_queries: Vec<MetricDataQuery>,
    /// At most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// At least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// How many times stable's own value in the same window is allowed although it is above `max` (and one so many times smaller,
    /// although it is below `min`). Stable's names take the place of the canary's. 1 to 10. Default: the limits hold whatever stable
    /// does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1.0, max = 10.0))]
    pub margin: Option<f64>,
}

impl Query {
    /// The limits, one or two.
    pub fn limits(&self) -> impl Iterator<Item = Limit> {
        self.max
            .map(Limit::Max)
            .into_iter()
            .chain(self.min.map(Limit::Min))
    }
}

/// One query of CloudWatch's `GetMetricData`, in its own spelling.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct MetricDataQuery {
    /// Its id: a lowercase letter, then letters, digits and underscores.
    pub id: String,
    /// The metric; or an expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric_stat: Option<MetricStat>,
    /// The expression over other ids; or a metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expression: Option<String>,
    /// Whether its values are the answer. Default: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub return_data: Option<bool>,
    /// The period in seconds, for an expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<u32>,
}

/// A metric and its statistic.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct MetricStat {
    /// The metric.
    pub metric: Metric,
    /// The period in seconds.
    pub period: u32,
    /// The statistic: `Sum`, `Average`, `Maximum`, `p99`, ...
    pub stat: String,
}

/// A metric's name and dimensions. CloudWatch matches dimensions exactly.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Metric {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub metric_name: String,
    /// The dimensions, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dimensions: Vec<Dimension>,
}

/// One dimension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub struct Dimension {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What happens after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Finish {
    /// How the new version becomes the stable one.
    pub mode: FinishMode,
    /// How much longer than its hold the last step is watched, with the old version still warm, in seconds. 0 to 604800.
    #[schemars(range(max = 604_800))]
    pub keep_canary_seconds: u32,
}

/// How the new version becomes the stable one.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum FinishMode {
    /// The original service is updated while the canary carries the traffic; then the canary goes.
    #[default]
    Promote,
    /// The canary stays and the original service goes.
    Replace,
}

/// What happens on an unhealthy verdict.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum OnUnhealthy {
    /// Put everything back.
    #[default]
    RollBack,
    /// Hold the weight, ask a person, and go on as decided; see `freeze`.
    Freeze,
}

/// How a frozen deployment waits for a person's decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Freeze {
    /// Which weight the canary keeps meanwhile.
    pub hold_at: HoldAt,
    /// How long the decision is waited for, in seconds; never beyond the deployment's deadline. 60 to 518400.
    #[schemars(range(min = 60, max = 518_400))]
    pub for_seconds: u32,
    /// What happens when nobody has decided by then.
    pub then: Decision,
}

impl Default for Freeze {
    fn default() -> Self {
        Self {
            hold_at: HoldAt::default(),
            for_seconds: 3600,
            then: Decision::default(),
        }
    }
}

/// Which weight a frozen canary keeps.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum HoldAt {
    /// The one that it has.
    #[default]
    CurrentStep,
    /// That of the last step whose checks were healthy; none, if there is no such step.
    LastHealthyStep,
}

/// What a person, or nobody within the time, decides about a frozen deployment.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::Display,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Decision {
    /// Put everything back.
    #[default]
    RollBack,
    /// Begin the step anew, with a window and a count of failures of its own.
    Resume,
    /// Go to the plan's last weight and make the new version the stable one, without another check.
    Promote,
}

/// What happens when an earlier deployment has left something.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum Leftovers {
    /// This deployment is refused, with the list of what is left.
    #[default]
    Refuse,
    /// The earlier deployment is rolled back first.
    Remove,
}

/// What happens while another deployment of the service runs.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum OnConflict {
    /// This one is refused.
    #[default]
    Reject,
    /// This one waits until that one has ended. Of several that wait only the newest goes on.
    Queue,
    /// That one is rolled back first, unless it is being promoted already: then it is waited for.
    Supersede,
}

/// What happens when stable already runs just the version that is to be deployed.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Default,
    Serialize,
    Deserialize,
    JsonSchema,
    strum::EnumString,
    strum::VariantNames,
)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "camelCase")]
pub enum IfUnchanged {
    /// It is deployed all the same.
    #[default]
    Deploy,
    /// This deployment is refused.
    Refuse,
}

/// Where the new version's images come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NewVersion {
    /// One image, for the application's container.
    Image(String),
    /// Images by container.
    Images(BTreeMap<ContainerName, String>),
    /// A task definition that exists.
    TaskDefinition(String),
}

#[cfg(test)]
mod tests;
