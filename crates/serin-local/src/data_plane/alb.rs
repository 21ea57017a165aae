//! The load balancer agent: what Elastic Load Balancing is to its own proxies.
//!
//! It reads load balancers, listeners, rules and target groups from moto, takes the targets from [`TargetRuntime`],
//! checks their health, and writes all of it into the files from which one Envoy takes its configuration.
//!
//! Every change is made before it is needed and broken after it is not: first clusters and endpoints appear, then the
//! routes change, and a cluster goes only when no route names it and no request is under way in it. A listener is
//! written once and never replaced, so that no connection of a caller is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::alb_config::{self, ListenerPlace};
use super::envoy_admin::EnvoyAdmin;
use super::journal::Journal;
use super::targets::{Checked, DueCheck, Health, Target, TargetRuntime};
use crate::load_balancing::{self, Listener, TargetGroup, attachments, group_name, metric_name};
use crate::moto::{Moto, MotoError};
use crate::ports::free_port;

/// How often the agent looks at moto.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How often it looks for checks that are due.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// How long Envoy may take to follow before the agent goes on without its confirmation.
const ENVOY_FOLLOWS_WITHIN: Duration = Duration::from_secs(5);

/// How often Envoy is asked whether it has followed.
const ASK_ENVOY_EVERY: Duration = Duration::from_millis(50);

/// What other parts may know of the load balancers.
#[derive(Debug, Default)]
pub(crate) struct AlbStatus {
    inner: Mutex<StatusInner>,
}

#[derive(Debug, Default)]
struct StatusInner {
    serving: bool,
    places: Vec<ListenerPlace>,
    attached: BTreeMap<String, BTreeSet<String>>,
}

impl AlbStatus {
    /// Whether there are listeners, and each group to which one of them sends requests has a healthy target.
    pub(crate) fn serving(&self) -> bool {
        self.lock().serving
    }

    /// The ports of this machine at which the listeners are, in the order of the ports that they have on AWS.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let places = &self.lock().places;
        places.iter().map(|place| place.port).collect()
    }

    /// The load balancers of each target group that one uses, by ARN.
    pub(crate) fn attached(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.lock().attached.clone()
    }

    fn lock(&self) -> MutexGuard<'_, StatusInner> {
        self.inner
            .lock()
            .expect("nobody panics while holding the load balancers' status")
    }
}

/// The files from which Envoy takes its configuration, and the one in which it tells of requests.
#[derive(Debug, Clone)]
pub(crate) struct AlbFiles {
    directory: PathBuf,
}

impl AlbFiles {
    /// Makes the folder with an empty configuration: Envoy wants its files to be there when it starts.
    pub(crate) fn create(directory: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let files = Self {
            directory: directory.to_owned(),
        };
        let nothing = alb_config::clusters(0, std::iter::empty(), |arn| files.endpoints(arn));
        files.write(&files.clusters(), &nothing)?;
        let nothing = alb_config::listeners(
            0,
            std::iter::empty(),
            |place| files.routes(&place.name),
            &files.access_log(),
        );
        files.write(&files.listeners(), &nothing)?;
        std::fs::write(files.access_log(), "")?;
        Ok(files)
    }

    pub(crate) fn clusters(&self) -> PathBuf {
        self.directory.join("clusters.json")
    }

    pub(crate) fn listeners(&self) -> PathBuf {
        self.directory.join("listeners.json")
    }

    pub(crate) fn access_log(&self) -> PathBuf {
        self.directory.join("access.log")
    }

    fn routes(&self, listener: &str) -> PathBuf {
        self.directory.join(format!("routes-{listener}.json"))
    }

    fn endpoints(&self, group: &str) -> PathBuf {
        let name = metric_name(group).replace('/', ".");
        self.directory.join(format!("endpoints-{name}.json"))
    }

    /// Replaces a file in one step. Envoy watches for files that are moved into place; it would read a file that is
    /// being written half.
    fn write(&self, path: &Path, content: &Value) -> std::io::Result<()> {
        let draft = self.directory.join("draft");
        std::fs::write(&draft, content.to_string())?;
        std::fs::rename(&draft, path)
    }
}

/// Why a look at the load balancers came to nothing.
#[derive(Debug, thiserror::Error)]
enum AlbError {
    #[error("could not read the load balancers")]
    Moto(#[from] MotoError),
    #[error("could not write the load balancer's configuration")]
    File(#[from] std::io::Error),
}

/// A target group as Envoy knows it.
#[derive(Debug, Clone)]
struct Cluster {
    group: TargetGroup,
    endpoints: Vec<(Target, Health)>,
}

/// Programs the load balancer's Envoy.
pub(crate) struct AlbAgent {
    moto: Moto,
    journal: Arc<Journal>,
    files: AlbFiles,
    admin: EnvoyAdmin,
    http: reqwest::Client,
    targets: Arc<TargetRuntime>,
    status: Arc<AlbStatus>,
    /// Counts the files written; Envoy repeats it, so one can see what it has taken in.
    version: u64,
    /// What was last written.
    clusters: BTreeMap<String, Cluster>,
    places: BTreeMap<String, ListenerPlace>,
    listeners: Vec<Listener>,
    already_noted: BTreeSet<String>,
}

impl AlbAgent {
    pub(crate) fn new(
        moto: Moto,
        journal: Arc<Journal>,
        files: AlbFiles,
        admin: EnvoyAdmin,
        targets: Arc<TargetRuntime>,
        status: Arc<AlbStatus>,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            moto,
            journal,
            files,
            admin,
            http: reqwest::Client::builder()
                .no_proxy()
                .pool_max_idle_per_host(0)
                .redirect(reqwest::redirect::Policy::none())
                .build()?,
            targets,
            status,
            version: 0,
            clusters: BTreeMap::new(),
            places: BTreeMap::new(),
            listeners: Vec::new(),
            already_noted: BTreeSet::new(),
        })
    }

    /// Follows moto and the targets until the task is aborted.
    pub(crate) async fn run(mut self) {
        while self.admin.clusters().await.is_err() {
            tokio::time::sleep(ASK_ENVOY_EVERY).await;
        }
        let mut changes = self.targets.changes();
        let mut next_look = Instant::now();
        loop {
            let mut result = Ok(());
            if next_look <= Instant::now() {
                next_look = Instant::now() + LOOK_EVERY;
                result = self.look().await;
            }
            // Targets come and go more often than rules.
            if result.is_ok() {
                result = self.follow_targets();
            }
            match result {
                // Something went between being listed and being read. The next look shows what is left.
                Err(AlbError::Moto(problem)) if problem.is_not_found() => {}
                Err(problem) => {
                    let cause =
                        std::error::Error::source(&problem).map(|source| format!(": {source}"));
                    self.journal.note(format!(
                        "load balancer: {problem}{}",
                        cause.unwrap_or_default()
                    ));
                }
                Ok(()) => {}
            }
            self.check();
            tokio::select! {
                () = tokio::time::sleep(CHECK_EVERY) => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Begins the checks that are due.
    fn check(&self) {
        for due in self.targets.due_checks() {
            let (http, targets) = (self.http.clone(), Arc::clone(&self.targets));
            tokio::spawn(async move {
                let result = probe(&http, &due).await;
                targets.checked(&due, result);
            });
        }
    }

    /// Reads the load balancers and brings Envoy from what was last written to what should be.
    async fn look(&mut self) -> Result<(), AlbError> {
        let groups = load_balancing::target_groups(&self.moto).await?;
        let listeners = load_balancing::listeners(&self.moto).await?;
        let attached = attachments(&listeners);
        self.targets
            .observe(&groups, &attached.keys().cloned().collect());
        self.status.lock().attached = attached;

        // What was and what will be, so that neither the old routes nor the new ones miss anything.
        let mut both: BTreeMap<String, TargetGroup> = self
            .clusters
            .iter()
            .map(|(arn, cluster)| (arn.clone(), cluster.group.clone()))
            .collect();
        for group in &groups {
            both.insert(group.arn.clone(), group.clone());
        }
        self.write_clusters(both)?;
        if listeners != self.listeners {
            self.wait_for_clusters(&listeners).await;
            self.write_listeners(listeners).await?;
        }
        self.remove_clusters(&groups).await?;

        let loaded: BTreeSet<String> = self
            .listeners
            .iter()
            .flat_map(|listener| &listener.rules)
            .flat_map(load_balancing::Rule::targets)
            .filter(|(_, weight)| *weight > 0)
            .map(|(arn, _)| arn)
            .collect();
        let serving =
            !loaded.is_empty() && loaded.iter().all(|arn| self.targets.host_counts(arn).0 > 0);
        self.status.lock().serving = serving;
        Ok(())
    }

    /// Writes the list of clusters, and endpoints for those that are new, where they differ from what was last written.
    fn write_clusters(&mut self, groups: BTreeMap<String, TargetGroup>) -> Result<(), AlbError> {
        let same = groups.len() == self.clusters.len()
            && groups.iter().all(|(arn, group)| {
                self.clusters
                    .get(arn)
                    .is_some_and(|cluster| cluster.group == *group)
            });
        if same {
            return Ok(());
        }
        let mut clusters = BTreeMap::new();
        for (arn, group) in groups {
            let endpoints = if let Some(known) = self.clusters.remove(&arn) {
                known.endpoints
            } else {
                let endpoints = self.targets.targets(&arn);
                self.write_endpoints(&arn, &endpoints)?;
                endpoints
            };
            clusters.insert(arn, Cluster { group, endpoints });
        }
        for gone in self.clusters.keys() {
            self.journal
                .note(format!("load balancer: {} is gone", metric_name(gone)));
        }
        self.clusters = clusters;
        self.version += 1;
        let list = alb_config::clusters(
            self.version,
            self.clusters.values().map(|cluster| &cluster.group),
            |arn| self.files.endpoints(arn),
        );
        self.files.write(&self.files.clusters(), &list)?;
        Ok(())
    }

    /// Writes the endpoints of the groups whose targets or their health changed.
    fn follow_targets(&mut self) -> Result<(), AlbError> {
        let changed: Vec<(String, Vec<(Target, Health)>)> = self
            .clusters
            .iter()
            .map(|(arn, cluster)| (arn, cluster, self.targets.targets(arn)))
            .filter(|(_, cluster, targets)| cluster.endpoints != *targets)
            .map(|(arn, _, targets)| (arn.clone(), targets))
            .collect();
        for (arn, endpoints) in changed {
            self.write_endpoints(&arn, &endpoints)?;
            if let Some(cluster) = self.clusters.get_mut(&arn) {
                cluster.endpoints = endpoints;
            }
        }
        Ok(())
    }

    fn write_endpoints(
        &mut self,
        arn: &str,
        endpoints: &[(Target, Health)],
    ) -> Result<(), AlbError> {
        self.version += 1;
        let content = alb_config::endpoints(self.version, arn, endpoints);
        self.files.write(&self.files.endpoints(arn), &content)?;
        let told: Vec<String> = endpoints
            .iter()
            .map(|(target, health)| format!("{} {health:?}", target.port))
            .collect();
        self.journal.note(format!(
            "load balancer: {} has targets [{}]",
            metric_name(arn),
            told.join(", ")
        ));
        Ok(())
    }

    /// Waits until Envoy uses the clusters that the new rules name: a route to a cluster that is still warming up fails
    /// requests.
    async fn wait_for_clusters(&self, listeners: &[Listener]) {
        let wanted: Vec<String> = attachments(listeners)
            .keys()
            .map(|arn| format!("{}::", metric_name(arn)))
            .collect();
        let until = Instant::now() + ENVOY_FOLLOWS_WITHIN;
        while Instant::now() < until {
            if let Ok(listed) = self.admin.clusters().await
                && wanted
                    .iter()
                    .all(|start| listed.lines().any(|line| line.starts_with(start.as_str())))
            {
                return;
            }
            tokio::time::sleep(ASK_ENVOY_EVERY).await;
        }
        self.journal.note(
            "load balancer: Envoy does not list all clusters; the routes follow all the same",
        );
    }

    /// Writes the routes of the listeners whose rules changed, and the list of listeners if one came or went.
    async fn write_listeners(&mut self, listeners: Vec<Listener>) -> Result<(), AlbError> {
        let mut written = Vec::new();
        for listener in &listeners {
            if self.listeners.contains(listener) {
                continue;
            }
            let name = place_name(listener);
            self.version += 1;
            let (routes, unknown) = alb_config::routes(self.version, &name, listener);
            self.files.write(&self.files.routes(&name), &routes)?;
            for what in unknown {
                if self.already_noted.insert(format!("{name} {what}")) {
                    self.journal.note(format!("load balancer: {name}: {what}"));
                }
            }
            for rule in &listener.rules {
                let weights: Vec<String> = rule
                    .targets()
                    .iter()
                    .map(|(arn, weight)| format!("{} {weight}", group_name(arn)))
                    .collect();
                self.journal.note(format!(
                    "load balancer: {name} rule {} sends to [{}]",
                    rule.priority
                        .map_or("default".to_owned(), |it| it.to_string()),
                    weights.join(", ")
                ));
            }
            written.push((name, self.version));
        }

        let mut places = BTreeMap::new();
        for listener in &listeners {
            let place = match self.places.get(&listener.arn) {
                Some(place) => place.clone(),
                None => ListenerPlace {
                    name: place_name(listener),
                    port: free_port()?,
                    load_balancer: metric_name(&listener.load_balancer).to_owned(),
                },
            };
            places.insert(listener.arn.clone(), place);
        }
        if places != self.places {
            self.version += 1;
            let list = alb_config::listeners(
                self.version,
                places.values(),
                |place| self.files.routes(&place.name),
                &self.files.access_log(),
            );
            self.files.write(&self.files.listeners(), &list)?;
            self.places = places;
        }
        self.status.lock().places = listeners
            .iter()
            .filter_map(|listener| self.places.get(&listener.arn).cloned())
            .collect();
        self.listeners = listeners;

        let until = Instant::now() + ENVOY_FOLLOWS_WITHIN;
        while Instant::now() < until {
            let mut followed = true;
            for (name, version) in &written {
                followed &= self
                    .admin
                    .has_routes(name, name, *version)
                    .await
                    .unwrap_or(false);
            }
            if followed {
                return Ok(());
            }
            tokio::time::sleep(ASK_ENVOY_EVERY).await;
        }
        self.journal
            .note("load balancer: Envoy did not take the routes; its log says why");
        Ok(())
    }

    /// Removes the clusters whose target group is gone, once nothing is under way in them.
    async fn remove_clusters(&mut self, groups: &[TargetGroup]) -> Result<(), AlbError> {
        let is_there = |arn: &String| groups.iter().any(|group| group.arn == *arn);
        if self.clusters.keys().all(is_there) {
            return Ok(());
        }
        let Ok(active) = self.admin.active_requests().await else {
            return Ok(());
        };
        let kept = self
            .clusters
            .iter()
            .filter(|(arn, _)| {
                is_there(arn) || active.get(metric_name(arn)).is_some_and(|it| *it > 0)
            })
            .map(|(arn, cluster)| (arn.clone(), cluster.group.clone()))
            .collect();
        self.write_clusters(kept)
    }
}

/// A name for a listener in Envoy that is one word in its statistics.
fn place_name(listener: &Listener) -> String {
    let id = listener.arn.rsplit('/').next().unwrap_or_default();
    format!("port-{}-{id}", listener.port)
}

async fn probe(http: &reqwest::Client, due: &DueCheck) -> Checked {
    let port = due.check.port.unwrap_or(due.target.port);
    let asked = http
        .get(format!(
            "http://{}:{port}{}",
            due.target.address, due.check.path
        ))
        .timeout(Duration::from_secs(due.check.timeout_seconds))
        .send()
        .await;
    match asked {
        Ok(answer) if due.check.matches(answer.status().as_u16()) => Checked::Well,
        Ok(answer) => Checked::WrongCode(answer.status().as_u16()),
        Err(_) => Checked::NoAnswer,
    }
}
