//! The users' traffic, and the agent that counts it into CloudWatch.
//!
//! Every route that is not TCP gets the same requests per second, which the Envoys split by the weights that they know. The
//! agent scrapes once per period; a datapoint counts what came since the scrape before, and the first scrape of a family
//! counts nothing.

use std::collections::{BTreeMap, BTreeSet};

use aws_sdk_appmesh::types::WeightedTarget;

use crate::app_mesh;
use crate::cloud_watch::{Datapoint, Series};
use crate::world::World;

/// The agent's namespace.
pub(crate) const NAMESPACE: &str = "ECS/ContainerInsights/Prometheus";
/// The agent's metric.
pub(crate) const METRIC: &str = "envoy_http_downstream_rq_xx";

/// The targets of a route, and since when the Envoys follow them.
type Followed = Vec<(i64, Vec<WeightedTarget>)>;

/// What is under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traffic {
    /// Requests that found no healthy task.
    pub(crate) lost: f64,
    /// Requests served, by family.
    pub(crate) served: BTreeMap<String, f64>,
    /// Requests of this minute, by ECS service.
    pub(crate) by_service: BTreeMap<u64, f64>,
    followed: BTreeMap<(String, String, String), Followed>,
    /// Requests and errors since the last scrape, by cluster and family.
    counts: BTreeMap<(String, String), (f64, f64)>,
    scraped: BTreeSet<(String, String)>,
}

impl World {
    /// One second of traffic.
    pub(crate) fn run_traffic(&mut self) {
        self.carry_traffic(1.0);
        if (self.now() - self.scrape_offset()).rem_euclid(self.metric_period()) == 0 {
            self.scrape();
        }
    }

    /// The next second in which the Envoys follow another route, or the agent reads them.
    pub(crate) fn next_event_in_the_mesh(&self) -> i64 {
        let followed = self.traffic.followed.values();
        let follows = followed
            .filter_map(|followed| followed.get(1))
            .map(|next| next.0);
        let scrape = self.next_multiple(self.metric_period(), self.scrape_offset());
        follows.min().unwrap_or(i64::MAX).min(scrape)
    }

    fn scrape_offset(&self) -> i64 {
        i64::try_from(self.settings.scrape_offset).expect("an offset is short")
    }

    /// The traffic of so many seconds like this one.
    pub(crate) fn carry_traffic(&mut self, seconds: f64) {
        let shares = self.shares(seconds);
        for (mesh, node, requests) in shares {
            let tasks = self.tasks_of_node(&mesh, &node);
            if tasks.is_empty() {
                self.traffic.lost += requests;
                continue;
            }
            #[expect(clippy::cast_precision_loss, reason = "few tasks")]
            let each = requests / tasks.len() as f64;
            let counted: Vec<((String, String), f64, u64)> = tasks
                .iter()
                .map(|task| {
                    (
                        (task.cluster.clone(), task.family.clone()),
                        each * self.settings.error_rate(&task.family, &task.images),
                        task.service,
                    )
                })
                .collect();
            for (key, errors, service) in counted {
                *self.traffic.by_service.entry(service).or_default() += each;
                *self.traffic.served.entry(key.1.clone()).or_default() += each;
                let count = self.traffic.counts.entry(key).or_default();
                count.0 += each;
                count.1 += errors;
            }
        }
    }

    /// How many requests go to which node in so many seconds like this one.
    fn shares(&mut self, seconds: f64) -> Vec<(String, String, f64)> {
        let now = self.now();
        let rate = self.settings.requests_per_second * seconds;
        let follows_at =
            now + i64::try_from(self.settings.propagation_seconds).expect("it is short");
        let mut shares = Vec::new();
        for route in self.app_mesh.routes() {
            let Some(spec) = route.spec.as_ref().filter(|spec| spec.tcp_route.is_none()) else {
                continue;
            };
            let targets = app_mesh::targets(spec).unwrap_or_default();
            let key = (
                route.mesh_name.clone(),
                route.virtual_router_name.clone(),
                route.route_name.clone(),
            );
            let followed = self.traffic.followed.entry(key).or_default();
            match followed.last() {
                None => followed.push((now, targets.to_vec())),
                Some((_, last)) if last.as_slice() != targets => {
                    followed.push((follows_at, targets.to_vec()));
                }
                Some(_) => {}
            }
            while followed.len() > 1 && followed[1].0 <= now {
                followed.remove(0);
            }
            let targets = &followed[0].1;
            let total: i32 = targets.iter().map(|target| target.weight).sum();
            if total == 0 {
                self.traffic.lost += rate;
            }
            for target in targets.iter().filter(|target| target.weight > 0) {
                let share = rate * f64::from(target.weight) / f64::from(total);
                shares.push((route.mesh_name.clone(), target.virtual_node.clone(), share));
            }
        }
        shares
    }

    /// The agent reads every Envoy's counters.
    fn scrape(&mut self) {
        let has_envoy = |definition: &str| {
            self.ecs
                .definition(definition)
                .is_some_and(|found| found.data.proxy_configuration().is_some())
        };
        let running: BTreeSet<(String, String)> = self
            .ecs
            .tasks
            .iter()
            .filter(|task| task.runs() && has_envoy(&task.definition))
            .map(|task| (task.cluster.clone(), task.family.clone()))
            .collect();
        let known = std::mem::replace(&mut self.traffic.scraped, running.clone());
        let counts = std::mem::take(&mut self.traffic.counts);
        for key in running {
            if !known.contains(&key) {
                continue;
            }
            let (requests, errors) = counts.get(&key).copied().unwrap_or_default();
            let (errors, requests) = (errors.round(), requests.round());
            if errors > 0.0 {
                self.note_error();
            }
            for (class, value) in [
                ("2", requests - errors),
                ("3", 0.0),
                ("4", 0.0),
                ("5", errors),
            ] {
                self.publish(&key, class, value);
            }
        }
    }

    /// A datapoint of an error is on its way.
    pub(crate) fn note_error(&mut self) {
        let shown = self.now() + i64::try_from(self.settings.metric_delay).expect("it is short");
        self.cloud_watch.first_error.get_or_insert(shown);
    }

    fn publish(&mut self, (cluster, family): &(String, String), class: &str, value: f64) {
        let now = self.now();
        let dimensions = [
            ("ClusterName", cluster.as_str()),
            ("TaskDefinitionFamily", family.as_str()),
            ("envoy_http_conn_manager_prefix", "ingress"),
            ("envoy_response_code_class", class),
        ];
        let dimensions = dimensions
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let series = Series {
            namespace: NAMESPACE.to_owned(),
            name: METRIC.to_owned(),
            dimensions,
        };
        let visible_at = now + i64::try_from(self.settings.metric_delay).expect("it is short");
        self.cloud_watch
            .series
            .entry(series)
            .or_default()
            .push(Datapoint {
                at: now,
                value,
                times: 1.0,
                visible_at,
            });
    }
}
