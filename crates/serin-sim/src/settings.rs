//! How the simulated world behaves.

pub use crate::cloud_watch::TrimmedCounts;

/// How the simulated world behaves; all times in seconds.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct Settings {
    /// From the start of a task until it runs.
    pub start_seconds: u64,
    /// The same for images whose name contains the text; the first match counts.
    pub start_seconds_of: Vec<(String, u64)>,
    /// From running until healthy.
    pub healthy_seconds: u64,
    /// From the order to stop a task until it is stopped.
    pub stop_seconds: u64,
    /// How long ECS waits before it starts a task in the place of a failed one; doubles with every failure, up to a minute.
    pub restart_seconds: u64,
    /// How long a new ECS service is not described yet; ECS is eventually consistent.
    pub service_lag_seconds: u64,
    /// How long a deleted ECS service is still described.
    pub inactive_seconds: u64,
    /// How many entries a page of a list has at most.
    pub page_size: usize,
    /// How many results a page of `GetMetricData` has at most.
    pub metric_page_size: usize,
    /// From a change of a route or a rule until the Envoys or the load balancer follow it.
    pub propagation_seconds: u64,
    /// The agent's scrape interval and so the metrics' period: 10 or 60.
    pub metric_period: u64,
    /// The second of the period at which the agent scrapes.
    pub scrape_offset: u64,
    /// From a scrape until CloudWatch gives the datapoint out.
    pub metric_delay: u64,
    /// Every series is empty, and `Complete`.
    pub metrics_silent: bool,
    /// Every result says `PartialData`.
    pub metrics_partial: bool,
    /// The requests per second on each route of the mesh that is not TCP, and on each rule of a load balancer that forwards.
    pub requests_per_second: f64,
    /// The share of requests that an image answers with 5xx, by a text in its task's family, a space, and its name; the first
    /// match counts, and without one there are no errors.
    pub error_rates: Vec<(String, f64)>,
    /// How long most requests to an image take behind a load balancer, in seconds, by a text in its name; the first match
    /// counts, and without one it is 0.05. One in ten takes 1.6 times as long or more, one in a hundred twice.
    pub latencies: Vec<(String, f64)>,
    /// The share of an image's requests that take eight times as long as most of its requests; found like the latencies, and without a match there are none.
    pub tails: Vec<(String, f64)>,
    /// What is known of counts of requests above a threshold.
    pub trimmed_counts: TrimmedCounts,
    /// The rules that get no requests, as `checkout-alb:8443/default`.
    pub idle_rules: Vec<String>,
    /// The share of the clients that a forward action with stickiness keeps on its first target group that has weight.
    pub sticky_share: f64,
    /// How many requests per second the autoscaler wants each task to serve; without it nothing is scaled.
    pub requests_per_task: Option<f64>,
    /// Whether Cloud Map names the instances of a service without a health check, as unknown; AWS does not document it.
    pub unchecked_instances_are_named: bool,
    /// Whether `RegisterScalableTarget` resets the members of `SuspendedState` that are not given; AWS does not document it.
    pub suspended_state_replaces: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            start_seconds: 5,
            start_seconds_of: Vec::new(),
            healthy_seconds: 5,
            stop_seconds: 3,
            restart_seconds: 5,
            service_lag_seconds: 0,
            inactive_seconds: 3600,
            page_size: 2,
            metric_page_size: usize::MAX,
            propagation_seconds: 3,
            metric_period: 60,
            scrape_offset: 3,
            metric_delay: 20,
            metrics_silent: false,
            metrics_partial: false,
            requests_per_second: 100.0,
            error_rates: vec![("bad".to_owned(), 0.1)],
            latencies: vec![("slow".to_owned(), 1.0)],
            tails: Vec::new(),
            trimmed_counts: TrimmedCounts::WithoutZeros,
            idle_rules: Vec::new(),
            sticky_share: 0.5,
            requests_per_task: None,
            unchecked_instances_are_named: true,
            suspended_state_replaces: false,
        }
    }
}

impl Settings {
    pub(crate) fn start_seconds(&self, image: &str) -> u64 {
        find(&self.start_seconds_of, image).unwrap_or(self.start_seconds)
    }

    pub(crate) fn latency(&self, image: &str) -> f64 {
        find(&self.latencies, image).unwrap_or(0.05)
    }

    pub(crate) fn tail(&self, image: &str) -> f64 {
        find(&self.tails, image).unwrap_or(0.0)
    }

    pub(crate) fn error_rate(&self, family: &str, image: &str) -> f64 {
        find(&self.error_rates, &format!("{family} {image}")).unwrap_or(0.0)
    }
}

fn find<T: Copy>(table: &[(String, T)], image: &str) -> Option<T> {
    table
        .iter()
        .find(|(text, _)| image.contains(text))
        .map(|(_, value)| *value)
}
