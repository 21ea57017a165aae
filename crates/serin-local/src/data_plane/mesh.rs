//! The mesh agent: what App Mesh's control plane is to the caller's sidecar.
//!
//! It reads routes, virtual nodes and Cloud Map instances from moto and writes them into the files from which the
//! caller's Envoy takes its configuration. It deliberately knows nothing of ECS: like App Mesh, it believes Cloud Map.
//!
//! Every change is made before it is needed and broken after it is not: first clusters and endpoints appear, then the
//! routes change, then clusters and endpoints disappear. Envoy finishes what is in flight to an endpoint that goes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::envoy_admin::EnvoyAdmin;
use super::envoy_config::{self, EGRESS};
use super::journal::Journal;
use crate::moto::{Moto, MotoError, Service};

/// How often the agent looks at moto.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How often it looks for meshes and virtual routers, which come and go far less than routes.
const LOOK_FOR_ROUTERS_EVERY: Duration = Duration::from_secs(2);

/// How often it asks Envoy what was answered.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// How long Envoy may take to follow before the agent goes on without its confirmation.
const ENVOY_FOLLOWS_WITHIN: Duration = Duration::from_secs(5);

/// How often Envoy is asked whether it has followed.
const ASK_ENVOY_EVERY: Duration = Duration::from_millis(50);

/// The name of an Envoy cluster: the mesh and the virtual node that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClusterName(String);

impl ClusterName {
    pub(crate) fn new(mesh: &str, virtual_node: &str) -> Self {
        Self(format!("{mesh}/{virtual_node}"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// How a node's tasks want to be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Where a task's sidecar takes requests.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    pub(crate) address: String,
    pub(crate) port: u16,
}

/// A virtual node as the caller's sidecar needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) protocol: Protocol,
    pub(crate) endpoints: BTreeSet<Endpoint>,
}

/// A route of HTTP, HTTP/2 or gRPC.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Route {
    pub(crate) name: String,
    /// The inner specification: `match`, `retryPolicy` and `timeout` as App Mesh has them.
    pub(crate) spec: Value,
    pub(crate) targets: BTreeMap<ClusterName, u64>,
    priority: u64,
}

/// A virtual router with its routes in the order in which they are tried.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Router {
    pub(crate) name: String,
    pub(crate) routes: Vec<Route>,
}

/// All that the caller may ask for.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct RouteTable {
    pub(crate) routers: Vec<Router>,
}

impl RouteTable {
    /// The clusters to which at least one route sends requests.
    fn loaded_clusters(&self) -> BTreeSet<&ClusterName> {
        self.routers
            .iter()
            .flat_map(|router| &router.routes)
            .flat_map(|route| &route.targets)
            .filter(|(_, weight)| **weight > 0)
            .map(|(cluster, _)| cluster)
            .collect()
    }
}

/// What other parts may know of the mesh.
#[derive(Debug, Default)]
pub(crate) struct MeshStatus {
    inner: Mutex<StatusInner>,
}

#[derive(Debug, Default)]
struct StatusInner {
    serving: bool,
    /// Where the caller's sidecar may send requests.
    endpoints: BTreeSet<Endpoint>,
    counts: BTreeMap<String, NodeCount>,
}

/// What a virtual node or a target group answered since the data plane started.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NodeCount {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
}

impl MeshStatus {
    /// Whether the caller's sidecar has routes, and each of their loaded targets has an endpoint.
    pub(crate) fn serving(&self) -> bool {
        self.lock().serving
    }

    /// Whether the caller's sidecar may send requests to a port of this machine.
    pub(crate) fn sends_to(&self, port: u16) -> bool {
        let status = self.lock();
        status.endpoints.iter().any(|known| known.port == port)
    }

    /// What each virtual node answered.
    pub(crate) fn counts(&self) -> BTreeMap<String, NodeCount> {
        self.lock().counts.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, StatusInner> {
        self.inner
            .lock()
            .expect("nobody panics while holding the mesh's status")
    }
}

/// The files from which the caller's sidecar takes its configuration.
#[derive(Debug, Clone)]
pub(crate) struct MeshFiles {
    directory: PathBuf,
}

impl MeshFiles {
    /// Makes the folder with an empty configuration: Envoy wants its files to be there when it starts.
    pub(crate) fn create(directory: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let files = Self {
            directory: directory.to_owned(),
        };
        let nothing = BTreeMap::<ClusterName, Node>::new();
        files.write(
            &files.clusters(),
            &envoy_config::clusters(0, nothing.iter(), |name| files.endpoints(name)),
        )?;
        files.write(
            &files.routes(),
            &envoy_config::routes(0, &RouteTable::default()),
        )?;
        Ok(files)
    }

    pub(crate) fn clusters(&self) -> PathBuf {
        self.directory.join("clusters.json")
    }

    pub(crate) fn routes(&self) -> PathBuf {
        self.directory.join("routes.json")
    }

    fn endpoints(&self, cluster: &ClusterName) -> PathBuf {
        self.directory.join(format!(
            "endpoints-{}.json",
            cluster.as_str().replace('/', ".")
        ))
    }

    /// Replaces a file in one step. Envoy watches for files that are moved into place; it would read a file that is
    /// being written half.
    fn write(&self, path: &Path, content: &Value) -> std::io::Result<()> {
        let draft = self.directory.join("draft");
        std::fs::write(&draft, content.to_string())?;
        std::fs::rename(&draft, path)
    }
}

/// Why a look at the mesh came to nothing.
#[derive(Debug, thiserror::Error)]
enum MeshError {
    #[error("could not read the mesh")]
    Moto(#[from] MotoError),
    #[error("could not write the sidecar's configuration")]
    File(#[from] std::io::Error),
}

/// Programs the caller's sidecar.
pub(crate) struct MeshAgent {
    moto: Moto,
    journal: Arc<Journal>,
    files: MeshFiles,
    admin: EnvoyAdmin,
    status: Arc<MeshStatus>,
    /// Counts the files written; Envoy repeats it, so one can see what it has taken in.
    version: u64,
    /// What was last written.
    nodes: BTreeMap<ClusterName, Node>,
    table: RouteTable,
    routers: Vec<(String, String)>,
    routers_seen_at: Option<Instant>,
    described: BTreeMap<ClusterName, DescribedNode>,
    counted: BTreeMap<(String, u8), u64>,
    counted_at: Option<Instant>,
    already_noted: BTreeSet<String>,
}

/// A virtual node's specification, kept until the list shows that it changed.
struct DescribedNode {
    listed: Value,
    protocol: Protocol,
    discovery: Value,
}

impl MeshAgent {
    pub(crate) fn new(
        moto: Moto,
        journal: Arc<Journal>,
        files: MeshFiles,
        admin: EnvoyAdmin,
        status: Arc<MeshStatus>,
    ) -> Self {
        Self {
            moto,
            journal,
            files,
            admin,
            status,
            version: 0,
            nodes: BTreeMap::new(),
            table: RouteTable::default(),
            routers: Vec::new(),
            routers_seen_at: None,
            described: BTreeMap::new(),
            counted: BTreeMap::new(),
            counted_at: None,
            already_noted: BTreeSet::new(),
        }
    }

    /// Follows moto until the task is aborted.
    pub(crate) async fn run(mut self) {
        while self.admin.clusters().await.is_err() {
            tokio::time::sleep(ASK_ENVOY_EVERY).await;
        }
        loop {
            match self.look().await {
                Ok((nodes, table)) => {
                    if let Err(problem) = self.apply(nodes, table).await {
                        self.note_error(&problem);
                    }
                }
                // Something went between being listed and being read. The next look shows what is left.
                Err(MeshError::Moto(problem)) if problem.is_not_found() => {
                    self.routers_seen_at = None;
                }
                Err(problem) => self.note_error(&problem),
            }
            self.count().await;
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn note_error(&self, problem: &MeshError) {
        let cause = std::error::Error::source(problem).map(|source| format!(": {source}"));
        self.journal
            .note(format!("mesh: {problem}{}", cause.unwrap_or_default()));
    }

    /// Reads the mesh as it should be.
    async fn look(&mut self) -> Result<(BTreeMap<ClusterName, Node>, RouteTable), MeshError> {
        if self
            .routers_seen_at
            .is_none_or(|seen| seen.elapsed() >= LOOK_FOR_ROUTERS_EVERY)
        {
            self.routers = self.list_routers().await?;
            self.routers_seen_at = Some(Instant::now());
        }
        let mut table = RouteTable::default();
        for (mesh, router) in self.routers.clone() {
            let routes = self.read_routes(&mesh, &router).await?;
            table.routers.push(Router {
                name: router,
                routes,
            });
        }
        let meshes: BTreeSet<String> = self.routers.iter().map(|(mesh, _)| mesh.clone()).collect();
        let mut nodes = BTreeMap::new();
        for mesh in &meshes {
            self.read_nodes(mesh, &mut nodes).await?;
        }
        Ok((nodes, table))
    }

    async fn list_routers(&self) -> Result<Vec<(String, String)>, MeshError> {
        let mut routers = Vec::new();
        for mesh in names(&self.moto.app_mesh("/meshes").await?["meshes"], "meshName") {
            let listed = self
                .moto
                .app_mesh(&format!("/meshes/{mesh}/virtualRouters"))
                .await?;
            for router in names(&listed["virtualRouters"], "virtualRouterName") {
                routers.push((mesh.clone(), router));
            }
        }
        routers.sort();
        Ok(routers)
    }

    async fn read_routes(&mut self, mesh: &str, of_router: &str) -> Result<Vec<Route>, MeshError> {
        let base = format!("/meshes/{mesh}/virtualRouter/{of_router}/routes");
        let listed = self.moto.app_mesh(&base).await?;
        let mut routes = Vec::new();
        for name in names(&listed["routes"], "routeName") {
            let described = self.moto.app_mesh(&format!("{base}/{name}")).await?;
            match route(mesh, &name, &described["spec"]) {
                Some(route) => routes.push(route),
                None => self.note_once(format!(
                    "mesh: route {of_router}/{name} is not of HTTP and is left out"
                )),
            }
        }
        // App Mesh tries the smallest priority first and, among equals, the most specific match.
        routes.sort_by_key(|route| {
            let specific = route.spec["match"]["prefix"]
                .as_str()
                .map_or(usize::MAX, str::len);
            (
                route.priority,
                std::cmp::Reverse(specific),
                route.name.clone(),
            )
        });
        Ok(routes)
    }

    async fn read_nodes(
        &mut self,
        mesh: &str,
        nodes: &mut BTreeMap<ClusterName, Node>,
    ) -> Result<(), MeshError> {
        let listed = self
            .moto
            .app_mesh(&format!("/meshes/{mesh}/virtualNodes"))
            .await?;
        for entry in listed["virtualNodes"].as_array().into_iter().flatten() {
            let Some(name) = entry["virtualNodeName"].as_str() else {
                continue;
            };
            let cluster = ClusterName::new(mesh, name);
            if self
                .described
                .get(&cluster)
                .is_none_or(|known| known.listed != *entry)
            {
                let described = self
                    .moto
                    .app_mesh(&format!("/meshes/{mesh}/virtualNodes/{name}"))
                    .await?;
                let node = DescribedNode {
                    listed: entry.clone(),
                    protocol: match described["spec"]["listeners"][0]["portMapping"]["protocol"]
                        .as_str()
                    {
                        Some("http2" | "grpc") => Protocol::Http2,
                        _ => Protocol::Http1,
                    },
                    discovery: described["spec"]["serviceDiscovery"]["awsCloudMap"].clone(),
                };
                if node.discovery.is_null() {
                    self.note_once(format!(
                        "mesh: node {} is not found by Cloud Map and gets no endpoint",
                        cluster.as_str()
                    ));
                }
                self.described.insert(cluster.clone(), node);
            }
            let known = &self.described[&cluster];
            let node = Node {
                protocol: known.protocol,
                endpoints: self.discover(&known.discovery).await?,
            };
            nodes.insert(cluster, node);
        }
        self.described.retain(|cluster, _| {
            nodes.contains_key(cluster) || !cluster.as_str().starts_with(&format!("{mesh}/"))
        });
        Ok(())
    }

    /// The healthy instances that bear all the attributes for which the node asks.
    async fn discover(&self, discovery: &Value) -> Result<BTreeSet<Endpoint>, MeshError> {
        if discovery.is_null() {
            return Ok(BTreeSet::new());
        }
        let wanted: serde_json::Map<String, Value> = discovery["attributes"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|attribute| {
                Some((
                    attribute["key"].as_str()?.to_owned(),
                    attribute["value"].clone(),
                ))
            })
            .collect();
        let request = json!({
            "NamespaceName": discovery["namespaceName"],
            "ServiceName": discovery["serviceName"],
            "HealthStatus": "HEALTHY",
            "QueryParameters": wanted,
        });
        let found = match self
            .moto
            .call(Service::CloudMap, "DiscoverInstances", &request)
            .await
        {
            Ok(found) => found,
            // A node may be there before the Cloud Map service it names, and after.
            Err(problem) if problem.is_not_found() => return Ok(BTreeSet::new()),
            Err(problem) => return Err(problem.into()),
        };
        Ok(found["Instances"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|instance| {
                let attributes = &instance["Attributes"];
                Some(Endpoint {
                    address: attributes["AWS_INSTANCE_IPV4"].as_str()?.to_owned(),
                    port: attributes["AWS_INSTANCE_PORT"].as_str()?.parse().ok()?,
                })
            })
            .collect())
    }

    /// Brings the caller's sidecar from what was last written to what should be.
    async fn apply(
        &mut self,
        nodes: BTreeMap<ClusterName, Node>,
        table: RouteTable,
    ) -> Result<(), MeshError> {
        if nodes == self.nodes && table == self.table {
            return Ok(());
        }

        // What was and what will be, so that neither the old routes nor the new ones miss anything.
        let mut both = nodes.clone();
        for (cluster, old) in &self.nodes {
            match both.get_mut(cluster) {
                Some(node) => node.endpoints.extend(old.endpoints.iter().cloned()),
                None => {
                    both.insert(cluster.clone(), old.clone());
                }
            }
        }
        self.write_nodes(both)?;
        if table != self.table {
            self.wait_for_clusters(&nodes, &table).await;
            self.write_routes(table).await?;
        }
        self.write_nodes(nodes)?;

        let serving = !self
            .table
            .routers
            .iter()
            .all(|router| router.routes.is_empty())
            && self.table.loaded_clusters().into_iter().all(|cluster| {
                self.nodes
                    .get(cluster)
                    .is_some_and(|node| !node.endpoints.is_empty())
            });
        self.status.lock().serving = serving;
        Ok(())
    }

    /// Writes endpoints, then the list of clusters, where they differ from what was last written.
    fn write_nodes(&mut self, nodes: BTreeMap<ClusterName, Node>) -> Result<(), MeshError> {
        for (cluster, node) in &nodes {
            let old = self.nodes.get(cluster);
            if old.is_some_and(|old| old.endpoints == node.endpoints) {
                continue;
            }
            self.version += 1;
            self.files.write(
                &self.files.endpoints(cluster),
                &envoy_config::endpoints(self.version, cluster, node.endpoints.iter()),
            )?;
            let ports: Vec<String> = node
                .endpoints
                .iter()
                .map(|endpoint| endpoint.port.to_string())
                .collect();
            self.journal.note(format!(
                "mesh: {} has endpoints [{}]",
                cluster.as_str(),
                ports.join(", ")
            ));
        }
        let same = nodes.len() == self.nodes.len()
            && nodes.iter().all(|(cluster, node)| {
                self.nodes
                    .get(cluster)
                    .is_some_and(|old| old.protocol == node.protocol)
            });
        if !same {
            self.version += 1;
            self.files.write(
                &self.files.clusters(),
                &envoy_config::clusters(self.version, nodes.iter(), |cluster| {
                    self.files.endpoints(cluster)
                }),
            )?;
        }
        for gone in self
            .nodes
            .keys()
            .filter(|cluster| !nodes.contains_key(*cluster))
        {
            self.journal
                .note(format!("mesh: {} is gone", gone.as_str()));
        }
        self.status.lock().endpoints = nodes
            .values()
            .flat_map(|node| node.endpoints.iter().cloned())
            .collect();
        self.nodes = nodes;
        Ok(())
    }

    /// Waits until Envoy uses the clusters that the new routes name: a route to a cluster that is still warming up
    /// fails requests.
    async fn wait_for_clusters(&self, nodes: &BTreeMap<ClusterName, Node>, table: &RouteTable) {
        let mut wanted = Vec::new();
        for cluster in table.loaded_clusters() {
            if let Some(node) = nodes.get(cluster) {
                wanted.push(format!("{}::", cluster.as_str()));
                for Endpoint { address, port } in &node.endpoints {
                    wanted.push(format!("{}::{address}:{port}::", cluster.as_str()));
                }
            }
        }
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
        self.journal
            .note("mesh: the sidecar does not list all clusters; the routes follow all the same");
    }

    async fn write_routes(&mut self, table: RouteTable) -> Result<(), MeshError> {
        self.version += 1;
        self.files.write(
            &self.files.routes(),
            &envoy_config::routes(self.version, &table),
        )?;
        for (router, route) in table
            .routers
            .iter()
            .flat_map(|router| router.routes.iter().map(move |route| (router, route)))
        {
            let weights: Vec<String> = route
                .targets
                .iter()
                .map(|(cluster, weight)| format!("{} {weight}", cluster.as_str()))
                .collect();
            self.journal.note(format!(
                "mesh: {}/{} sends to {}",
                router.name,
                route.name,
                weights.join(", ")
            ));
        }
        self.table = table;
        let until = Instant::now() + ENVOY_FOLLOWS_WITHIN;
        while Instant::now() < until {
            if self
                .admin
                .has_routes(EGRESS, EGRESS, self.version)
                .await
                .unwrap_or(false)
            {
                return Ok(());
            }
            tokio::time::sleep(ASK_ENVOY_EVERY).await;
        }
        self.journal
            .note("mesh: the sidecar did not take the routes; its log says why");
        Ok(())
    }

    /// Adds up what the clusters answered. A cluster that is removed takes its counters along, so differences are
    /// added and not totals shown.
    async fn count(&mut self) {
        if self.counted_at.is_some_and(|at| at.elapsed() < COUNT_EVERY) {
            return;
        }
        self.counted_at = Some(Instant::now());
        let Ok(counts) = self.admin.cluster_counts().await else {
            return;
        };
        self.counted
            .retain(|(cluster, _), _| counts.iter().any(|read| read.cluster == *cluster));
        let mut status = self.status.lock();
        for read in counts {
            let before = self
                .counted
                .insert((read.cluster.clone(), read.class), read.count)
                .filter(|before| *before <= read.count)
                .unwrap_or(0);
            let node = read.cluster.rsplit('/').next().unwrap_or_default();
            let count = status.counts.entry(node.to_owned()).or_default();
            count.requests += read.count - before;
            if read.class == 5 {
                count.errors += read.count - before;
            }
        }
    }

    fn note_once(&mut self, line: String) {
        if self.already_noted.insert(line.clone()) {
            self.journal.note(line);
        }
    }
}

/// Reads a route's specification; `None` if it is not of HTTP, HTTP/2 or gRPC.
fn route(mesh: &str, name: &str, spec: &Value) -> Option<Route> {
    let inner = ["httpRoute", "http2Route", "grpcRoute"]
        .into_iter()
        .map(|kind| &spec[kind])
        .find(|inner| inner.is_object())?;
    let mut targets = BTreeMap::new();
    for target in inner["action"]["weightedTargets"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let cluster = ClusterName::new(mesh, target["virtualNode"].as_str()?);
        *targets.entry(cluster).or_insert(0) += target["weight"].as_u64().unwrap_or(0);
    }
    Some(Route {
        name: name.to_owned(),
        spec: inner.clone(),
        targets,
        priority: spec["priority"].as_u64().unwrap_or(u64::MAX),
    })
}

fn names(listed: &Value, member: &str) -> Vec<String> {
    listed
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|entry| entry[member].as_str().map(ToOwned::to_owned))
        .collect()
}
