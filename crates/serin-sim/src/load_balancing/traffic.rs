//! The users' requests through the load balancers, and what these tell CloudWatch about them.
//!
//! Every rule that forwards gets the same requests per second, which its load balancer splits by the weights that it
//! knows. A Network Load Balancer carries requests as well, but counts none.

use std::collections::BTreeMap;

use aws_sdk_elasticloadbalancingv2::types::{Action, TargetGroupTuple, TargetTypeEnum};

use super::{Place, TargetState, is_application, suffix, tuples};
use crate::cloud_watch::{Datapoint, Series};
use crate::world::World;

/// How long requests take: the part of them, and how many times as long as most.
const TIMES: [(f64, f64); 9] = [
    (0.05, 0.5),
    (0.20, 0.8),
    (0.30, 1.0),
    (0.20, 1.2),
    (0.13, 1.4),
    (0.04, 1.6),
    (0.06, 1.8),
    (0.012, 2.0),
    (0.008, 4.0),
];
/// How long a load balancer's targets took.
const RESPONSE_TIME: &str = "TargetResponseTime";
/// How many times as long as most a request of the tail takes.
const TAIL: f64 = 8.0;
/// Parts of a whole, as whole numbers.
const WHOLE: f64 = 1_000_000.0;

/// What is under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct BalancerTraffic {
    /// The target groups that a rule forwards to, and since when the load balancer follows them.
    followed: BTreeMap<String, Vec<(i64, Vec<TargetGroupTuple>)>>,
    /// What came in this minute, by load balancer and target group.
    groups: BTreeMap<(String, String), Counts>,
    /// What the load balancers answered themselves in this minute.
    generated: BTreeMap<String, Generated>,
    hosts: BTreeMap<(String, String), Hosts>,
}

#[derive(Debug, Clone, Default)]
struct Counts {
    requests: f64,
    errors: f64,
    refused: f64,
    hung: f64,
    /// Requests by the milliseconds that most of their image's take, and by the part of its tail.
    times: BTreeMap<(u64, u64), f64>,
}

#[derive(Debug, Clone, Default)]
struct Generated {
    bad_gateway: f64,
    unavailable: f64,
    timeout: f64,
}

/// The fewest and the most targets in this minute.
#[derive(Debug, Clone)]
struct Hosts {
    healthy: (usize, usize),
    unhealthy: (usize, usize),
}

/// A part of a second's requests: the load balancer, the target group if one has weight, how many.
type Share = (String, Option<String>, f64);

impl BalancerTraffic {
    /// Whether a load balancer may still send requests to the target group, as far as it has heard of its rules.
    pub(crate) fn follows(&self, group: &str) -> bool {
        let mut followed = self.followed.values().filter_map(|kept| kept.first());
        followed.any(|(_, tuples)| {
            tuples
                .iter()
                .any(|tuple| tuple.target_group_arn() == Some(group))
        })
    }
}

impl World {
    /// One second of the load balancers' traffic.
    pub(crate) fn run_balancers(&mut self) {
        self.carry_balanced_traffic(1.0);
        let is_over = self.now().rem_euclid(self.metric_period()) == 0;
        if is_over && !self.load_balancing.balancers.is_empty() {
            self.publish_balancers();
        }
    }

    /// The traffic of so many seconds like this one.
    pub(crate) fn carry_balanced_traffic(&mut self, seconds: f64) {
        if self.load_balancing.balancers.is_empty() {
            return;
        }
        for (balancer, group, requests) in self.balancer_shares(seconds) {
            self.deal(&balancer, group.as_deref(), requests);
        }
        self.count_hosts();
    }

    /// The next second in which a load balancer follows another rule, or a minute is over.
    pub(crate) fn next_event_at_balancers(&self) -> i64 {
        let followed = self.balancer_traffic.followed.values();
        let follows = followed
            .filter_map(|followed| followed.get(1))
            .map(|next| next.0);
        let minute = self.next_multiple(self.metric_period(), 0);
        follows.min().unwrap_or(i64::MAX).min(minute)
    }

    fn balancer_shares(&mut self, seconds: f64) -> Vec<Share> {
        let now = self.now();
        let rate = self.settings.requests_per_second * seconds;
        let follows_at =
            now + i64::try_from(self.settings.propagation_seconds).expect("it is short");
        let mut shares = Vec::new();
        for place in self.load_balancing.places() {
            let given = tuples(place.actions);
            let path = place.path();
            if given.is_empty() || self.settings.idle_rules.contains(&path) {
                continue;
            }
            let followed = self.balancer_traffic.followed.entry(path).or_default();
            match followed.last() {
                None => followed.push((now, given.to_vec())),
                Some((_, last)) if last.as_slice() != given => {
                    followed.push((follows_at, given.to_vec()));
                }
                Some(_) => {}
            }
            while followed.len() > 1 && followed[1].0 <= now {
                followed.remove(0);
            }
            let bound = if is_sticky(&place) {
                self.settings.sticky_share
            } else {
                0.0
            };
            shares.extend(split(&place, &followed[0].1, rate, bound));
        }
        shares
    }

    /// Gives a target group its requests.
    fn deal(&mut self, balancer: &str, group: Option<&str>, requests: f64) {
        let found = group.and_then(|group| self.load_balancing.group(group));
        let generated = self
            .balancer_traffic
            .generated
            .entry(balancer.to_owned())
            .or_default();
        let Some(found) = found else {
            generated.unavailable += requests;
            self.traffic.lost += requests;
            return;
        };
        if found.data.target_type() == Some(&TargetTypeEnum::Lambda) {
            return;
        }
        let healthy = found
            .targets
            .iter()
            .filter(|target| target.state == TargetState::Healthy);
        let tasks: Vec<_> = healthy
            .map(|target| {
                let id = target.task.as_deref()?;
                self.ecs.tasks.iter().find(|task| task.id == id)
            })
            .collect();
        if tasks.is_empty() {
            generated.unavailable += requests;
            self.traffic.lost += requests;
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "few tasks")]
        let each = requests / tasks.len() as f64;
        let key = (balancer.to_owned(), found.arn().to_owned());
        let counts = self.balancer_traffic.groups.entry(key).or_default();
        for task in tasks {
            counts.requests += each;
            let images = task.map(|task| task.images.as_str()).unwrap_or_default();
            let family = task.map(|task| task.family.as_str()).unwrap_or_default();
            if let Some(task) = task {
                *self.traffic.by_service.entry(task.service).or_default() += each;
            }
            if images.contains("refuses") {
                counts.refused += each;
                generated.bad_gateway += each;
                continue;
            }
            if images.contains("hangs") {
                counts.hung += each;
                generated.timeout += each;
                continue;
            }
            counts.errors += each * self.settings.error_rate(family, images);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a request takes some milliseconds"
            )]
            let kind = (
                (self.settings.latency(images) * 1000.0).round() as u64,
                (self.settings.tail(images) * WHOLE).round() as u64,
            );
            *counts.times.entry(kind).or_default() += each;
            if let Some(task) = task {
                *self.traffic.served.entry(task.family.clone()).or_default() += each;
            }
        }
    }

    fn count_hosts(&mut self) {
        for group in &self.load_balancing.groups {
            let registered = group.targets.iter().any(|target| !target.drains());
            let balancer = self.load_balancing.balancer_of(group.arn());
            let Some(balancer) = balancer.filter(|_| registered) else {
                continue;
            };
            let in_state = |state| {
                let targets = group.targets.iter();
                targets.filter(|target| target.state == state).count()
            };
            let (healthy, unhealthy) = (
                in_state(TargetState::Healthy),
                in_state(TargetState::Unhealthy),
            );
            let balancer = balancer.load_balancer_arn().unwrap_or_default().to_owned();
            let hosts = self
                .balancer_traffic
                .hosts
                .entry((balancer, group.arn().to_owned()))
                .or_insert(Hosts {
                    healthy: (healthy, healthy),
                    unhealthy: (unhealthy, unhealthy),
                });
            let widened =
                |(fewest, most): (usize, usize), now: usize| (fewest.min(now), most.max(now));
            hosts.healthy = widened(hosts.healthy, healthy);
            hosts.unhealthy = widened(hosts.unhealthy, unhealthy);
        }
    }

    /// A minute is over.
    fn publish_balancers(&mut self) {
        for ((balancer, group), counts) in std::mem::take(&mut self.balancer_traffic.groups) {
            if !self.counts_requests(&balancer) {
                continue;
            }
            let place = [
                ("TargetGroup", suffix(&group)),
                ("LoadBalancer", suffix(&balancer)),
            ];
            let errors = counts.errors.round();
            let (refused, hung) = (counts.refused.round(), counts.hung.round());
            let fine = counts.requests.round() - errors - refused - hung;
            self.tell("RequestCount", &place, counts.requests.round());
            self.tell("HTTPCode_Target_2XX_Count", &place, fine);
            self.tell("HTTPCode_Target_5XX_Count", &place, errors);
            if errors + refused + hung > 0.0 {
                self.note_error();
            }
            self.tell("TargetConnectionErrorCount", &place, refused);
            self.tell_times(&place, &counts.times);
        }
        for (balancer, generated) in std::mem::take(&mut self.balancer_traffic.generated) {
            if !self.counts_requests(&balancer) {
                continue;
            }
            let place = [("LoadBalancer", suffix(&balancer))];
            let all = generated.bad_gateway + generated.unavailable + generated.timeout;
            for (name, value) in [
                ("HTTPCode_ELB_5XX_Count", all),
                ("HTTPCode_ELB_502_Count", generated.bad_gateway),
                ("HTTPCode_ELB_503_Count", generated.unavailable),
                ("HTTPCode_ELB_504_Count", generated.timeout),
            ] {
                self.tell(name, &place, value.round());
            }
        }
        for ((balancer, group), hosts) in std::mem::take(&mut self.balancer_traffic.hosts) {
            let namespace = if self.counts_requests(&balancer) {
                "AWS/ApplicationELB"
            } else {
                "AWS/NetworkELB"
            };
            let place = [
                ("TargetGroup", suffix(&group)),
                ("LoadBalancer", suffix(&balancer)),
            ];
            for (name, (fewest, most)) in [
                ("HealthyHostCount", hosts.healthy),
                ("UnHealthyHostCount", hosts.unhealthy),
            ] {
                #[expect(clippy::cast_precision_loss, reason = "few targets")]
                for value in [fewest as f64, most as f64] {
                    self.put(namespace, name, &place, value);
                }
            }
        }
    }

    /// A minute on AWS; shorter where a test is to be compared with the local cloud.
    pub(crate) fn metric_period(&self) -> i64 {
        i64::try_from(self.settings.metric_period).expect("a period is short")
    }

    fn counts_requests(&self, balancer: &str) -> bool {
        self.load_balancing
            .balancer(balancer)
            .is_some_and(is_application)
    }

    /// The times of a minute's requests.
    fn tell_times(&mut self, place: &[(&str, &str)], times: &BTreeMap<(u64, u64), f64>) {
        for ((millis, tail), requests) in times {
            #[expect(
                clippy::cast_precision_loss,
                reason = "a request takes some milliseconds"
            )]
            let (seconds, tail) = (*millis as f64 / 1000.0, *tail as f64 / WHOLE);
            let body = TIMES.map(|(part, factor)| (part * (1.0 - tail), factor));
            // The parts are rounded so that they make up the whole.
            let (mut so_far, mut told) = (0.0, 0.0);
            for (part, factor) in body.into_iter().chain([(tail, TAIL)]) {
                so_far += part * requests;
                let number = so_far.round() - told;
                told += number;
                if number > 0.0 {
                    // As a person writes it: 0.08 and not 0.08000000000000002.
                    let value = (seconds * factor * WHOLE).round() / WHOLE;
                    self.put_times("AWS/ApplicationELB", RESPONSE_TIME, place, value, number);
                }
            }
        }
    }

    /// A count; nothing is told when there is nothing to count.
    fn tell(&mut self, name: &str, place: &[(&str, &str)], value: f64) {
        if value > 0.0 {
            self.put("AWS/ApplicationELB", name, place, value);
        }
    }

    fn put(&mut self, namespace: &str, name: &str, place: &[(&str, &str)], value: f64) {
        self.put_times(namespace, name, place, value, 1.0);
    }

    /// Puts a value that so many measurements had.
    fn put_times(
        &mut self,
        namespace: &str,
        name: &str,
        place: &[(&str, &str)],
        value: f64,
        times: f64,
    ) {
        let now = self.now();
        let series = Series {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            dimensions: place
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        let visible_at = now + i64::try_from(self.settings.metric_delay).expect("it is short");
        let at = now - self.metric_period();
        self.cloud_watch
            .series
            .entry(series)
            .or_default()
            .push(Datapoint {
                at,
                value,
                times,
                visible_at,
            });
    }
}

/// How many requests of a rule go where.
fn split(place: &Place<'_>, targets: &[TargetGroupTuple], rate: f64, bound: f64) -> Vec<Share> {
    let balancer = place.balancer.load_balancer_arn().unwrap_or_default();
    let weight = |target: &TargetGroupTuple| f64::from(target.weight().unwrap_or(1));
    let total: f64 = targets.iter().map(weight).sum();
    let weighted: Vec<&TargetGroupTuple> = targets
        .iter()
        .filter(|target| weight(target) > 0.0)
        .collect();
    if weighted.is_empty() {
        return vec![(balancer.to_owned(), None, rate)];
    }
    // Clients that are bound are bound to the first target group, as they have been there for long.
    weighted
        .iter()
        .enumerate()
        .map(|(index, target)| {
            let held = if index == 0 { bound } else { 0.0 };
            let share = rate * (held + (1.0 - bound) * weight(target) / total);
            (balancer.to_owned(), target.target_group_arn.clone(), share)
        })
        .collect()
}

fn is_sticky(place: &Place<'_>) -> bool {
    place
        .actions
        .iter()
        .find_map(Action::forward_config)
        .and_then(|forward| forward.target_group_stickiness_config())
        .is_some_and(|config| config.enabled() == Some(true))
}
