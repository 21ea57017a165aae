//! Envoy's configuration as JSON: the sidecar of a task, the caller's sidecar, and what the mesh tells the latter.
//!
//! Only shapes are made here; when they are written and in which order is the mesh agent's business.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::mesh::{ClusterName, Endpoint, Node, Protocol, RouteTable};

/// The prefix under which an App Mesh sidecar counts what comes in.
pub(crate) const INGRESS: &str = "ingress";

/// The prefix under which an App Mesh sidecar counts what goes out; also the name of the caller's only route table.
pub(crate) const EGRESS: &str = "egress";

/// The command that starts an Envoy. What it writes about requests is in its file soon after.
pub(crate) fn envoy(program: &Path, configuration: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--config-path").arg(configuration).args([
        "--concurrency",
        "1",
        "--disable-hot-restart",
        "--file-flush-interval-msec",
        "200",
        "--log-level",
        "warning",
    ]);
    command
}

/// The four ports of a task.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskPorts {
    /// Where the application listens.
    pub(crate) application: u16,
    /// Where the sidecar takes requests for the application.
    pub(crate) ingress: u16,
    /// Where the sidecar takes health probes, apart from the ingress so that they are not counted as traffic.
    pub(crate) health: u16,
    /// The sidecar's administration.
    pub(crate) admin: u16,
}

/// The sidecar of a task: it forwards to the application and counts.
pub(crate) fn task_sidecar(ports: TaskPorts) -> Value {
    json!({
        "node": {"id": "task", "cluster": "serin-local"},
        "admin": {"address": local_address(ports.admin)},
        "static_resources": {
            "listeners": [
                forwarding_listener(INGRESS, ports.ingress),
                forwarding_listener("health", ports.health),
            ],
            "clusters": [{
                "name": "application",
                "type": "STATIC",
                "connect_timeout": "1s",
                "circuit_breakers": generous_circuit_breakers(),
                "load_assignment": {
                    "cluster_name": "application",
                    "endpoints": [{"lb_endpoints": [{"endpoint": {"address": local_address(ports.application)}}]}],
                },
            }],
        },
    })
}

/// The caller's sidecar: one listener for everything that the caller asks of the mesh. Clusters and routes come from
/// files, which the mesh agent writes.
pub(crate) fn caller_sidecar(
    entry_port: u16,
    admin_port: u16,
    clusters: &Path,
    routes: &Path,
) -> Value {
    json!({
        "node": {"id": "caller", "cluster": "serin-local"},
        "admin": {"address": local_address(admin_port)},
        "dynamic_resources": {"cds_config": file_source(clusters)},
        "static_resources": {
            "listeners": [listener(EGRESS, entry_port, "rds", &json!({
                "route_config_name": EGRESS,
                "config_source": file_source(routes),
            }))],
        },
    })
}

/// The list of clusters, one for each virtual node.
pub(crate) fn clusters<'a>(
    version: u64,
    nodes: impl Iterator<Item = (&'a ClusterName, &'a Node)>,
    endpoints_file: impl Fn(&ClusterName) -> std::path::PathBuf,
) -> Value {
    let resources: Vec<Value> = nodes
        .map(|(name, node)| {
            let mut cluster = json!({
                "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                "name": name.as_str(),
                "type": "EDS",
                "eds_cluster_config": {"eds_config": file_source(&endpoints_file(name))},
                "connect_timeout": "1s",
                "lb_policy": "ROUND_ROBIN",
                "circuit_breakers": generous_circuit_breakers(),
            });
            if node.protocol == Protocol::Http2 {
                cluster["typed_extension_protocol_options"] = json!({
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicit_http_config": {"http2_protocol_options": {}},
                    },
                });
            }
            cluster
        })
        .collect();
    discovery_response(version, &Value::Array(resources))
}

/// The endpoints of one cluster.
pub(crate) fn endpoints<'a>(
    version: u64,
    cluster: &ClusterName,
    all: impl Iterator<Item = &'a Endpoint>,
) -> Value {
    let each: Vec<Value> = all
        .map(|endpoint| {
            json!({"endpoint": {"address": {"socket_address": {
                "address": endpoint.address,
                "port_value": endpoint.port,
            }}}})
        })
        .collect();
    discovery_response(
        version,
        &json!([{
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": cluster.as_str(),
            "endpoints": [{"lb_endpoints": each}],
        }]),
    )
}

/// The caller's routes: one virtual host for each virtual router. The first router also answers callers that name
/// none, as the load generator does.
pub(crate) fn routes(version: u64, table: &RouteTable) -> Value {
    let hosts: Vec<Value> = table
        .routers
        .iter()
        .enumerate()
        .map(|(index, router)| {
            let mut domains = vec![router.name.clone(), format!("{}:*", router.name)];
            if index == 0 {
                domains.push("*".to_owned());
            }
            let routes: Vec<Value> = router
                .routes
                .iter()
                .map(|route| {
                    let mut entry = Map::new();
                    entry.insert("name".to_owned(), json!(route.name));
                    entry.insert("match".to_owned(), route_match(&route.spec["match"]));
                    if route.targets.values().all(|weight| *weight == 0) {
                        // Envoy refuses a table with such a route, which would keep all other changes out as well.
                        entry.insert(
                            "direct_response".to_owned(),
                            json!({"status": 503, "body": {"inline_string": "the route has no weight\n"}}),
                        );
                    } else {
                        entry.insert("route".to_owned(), route_action(&route.targets, &route.spec));
                    }
                    Value::Object(entry)
                })
                .collect();
            json!({"name": router.name, "domains": domains, "routes": routes})
        })
        .collect();
    discovery_response(
        version,
        &json!([{
            "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            "name": EGRESS,
            "virtual_hosts": hosts,
        }]),
    )
}

/// What App Mesh calls a match, said in Envoy's words.
fn route_match(given: &Value) -> Value {
    let mut matches = Map::new();
    if let Some(exact) = given["path"]["exact"].as_str() {
        matches.insert("path".to_owned(), json!(exact));
    } else if let Some(regex) = given["path"]["regex"].as_str() {
        matches.insert("safe_regex".to_owned(), json!({"regex": regex}));
    } else if let Some(service) = given["serviceName"].as_str() {
        let method = given["methodName"].as_str().unwrap_or_default();
        matches.insert("prefix".to_owned(), json!(format!("/{service}/{method}")));
    } else {
        matches.insert(
            "prefix".to_owned(),
            json!(given["prefix"].as_str().unwrap_or("/")),
        );
    }

    let mut headers = Vec::new();
    if let Some(method) = given["method"].as_str() {
        headers.push(json!({"name": ":method", "string_match": {"exact": method}}));
    }
    for header in list(&given["headers"]).chain(list(&given["metadata"])) {
        let mut rule = Map::new();
        rule.insert("name".to_owned(), header["name"].clone());
        let given = &header["match"];
        if let (Some(start), Some(end)) = (
            given["range"]["start"].as_i64(),
            given["range"]["end"].as_i64(),
        ) {
            rule.insert(
                "range_match".to_owned(),
                json!({"start": start, "end": end}),
            );
        } else if let Some((kind, value)) = string_rule(given) {
            rule.insert("string_match".to_owned(), json!({kind: value}));
        } else {
            rule.insert("present_match".to_owned(), json!(true));
        }
        if header["invert"].as_bool() == Some(true) {
            rule.insert("invert_match".to_owned(), json!(true));
        }
        headers.push(Value::Object(rule));
    }
    if !headers.is_empty() {
        matches.insert("headers".to_owned(), Value::Array(headers));
    }

    let parameters: Vec<Value> = list(&given["queryParameters"])
        .map(|parameter| match parameter["match"]["exact"].as_str() {
            Some(exact) => json!({"name": parameter["name"], "string_match": {"exact": exact}}),
            None => json!({"name": parameter["name"], "present_match": true}),
        })
        .collect();
    if !parameters.is_empty() {
        matches.insert("query_parameters".to_owned(), Value::Array(parameters));
    }
    Value::Object(matches)
}

/// The one rule of an App Mesh string match, in the words of Envoy's string matcher.
fn string_rule(rule: &Value) -> Option<(&'static str, Value)> {
    [
        ("exact", "exact"),
        ("prefix", "prefix"),
        ("suffix", "suffix"),
    ]
    .into_iter()
    .find_map(|(theirs, ours)| rule[theirs].as_str().map(|value| (ours, json!(value))))
    .or_else(|| {
        rule["regex"]
            .as_str()
            .map(|regex| ("safe_regex", json!({"regex": regex})))
    })
}

/// Where a route's requests go. A target without weight is left out: Envoy would give it nothing either.
fn route_action(targets: &BTreeMap<ClusterName, u64>, spec: &Value) -> Value {
    let weighted: Vec<Value> = targets
        .iter()
        .filter(|(_, weight)| **weight > 0)
        .map(|(cluster, weight)| json!({"name": cluster.as_str(), "weight": weight}))
        .collect();
    let mut action = Map::new();
    action.insert(
        "weighted_clusters".to_owned(),
        json!({"clusters": weighted}),
    );
    if let Some(limit) = duration(&spec["timeout"]["perRequest"]) {
        action.insert("timeout".to_owned(), json!(limit));
    }
    if let Some(limit) = duration(&spec["timeout"]["idle"]) {
        action.insert("idle_timeout".to_owned(), json!(limit));
    }
    if let Some(policy) = retry_policy(&spec["retryPolicy"]) {
        action.insert("retry_policy".to_owned(), policy);
    }
    Value::Object(action)
}

/// Retries, only if the route asks for them. (App Mesh adds two of its own to routes that say nothing. Here they would
/// hide the very failures that are to be counted.)
fn retry_policy(given: &Value) -> Option<Value> {
    let attempts = given["maxRetries"].as_u64()?;
    let mut on: Vec<&str> = Vec::new();
    let mut codes: Vec<u16> = Vec::new();
    let events = ["httpRetryEvents", "tcpRetryEvents", "grpcRetryEvents"];
    for event in events
        .iter()
        .flat_map(|kind| list(&given[kind]))
        .filter_map(Value::as_str)
    {
        match event {
            "server-error" => codes.extend(500..=511),
            "gateway-error" => codes.extend(502..=504),
            "client-error" => codes.push(409),
            "stream-error" => on.push("refused-stream"),
            "connection-error" => on.push("connect-failure"),
            // The rest are gRPC's own codes, which Envoy calls by the same names.
            other => on.push(other),
        }
    }
    if !codes.is_empty() {
        on.push("retriable-status-codes");
    }
    let mut policy =
        json!({"retry_on": on.join(","), "num_retries": attempts, "retriable_status_codes": codes});
    if let Some(limit) = duration(&given["perRetryTimeout"]) {
        policy["per_try_timeout"] = json!(limit);
    }
    Some(policy)
}

/// `{"unit": "ms", "value": 250}` as `0.250s`.
fn duration(given: &Value) -> Option<String> {
    let value = given["value"].as_u64()?;
    Some(match given["unit"].as_str() {
        Some("ms") => format!("{}.{:03}s", value / 1000, value % 1000),
        _ => format!("{value}s"),
    })
}

fn list(given: &Value) -> impl Iterator<Item = &Value> {
    given.as_array().into_iter().flatten()
}

fn forwarding_listener(name: &str, port: u16) -> Value {
    listener(
        name,
        port,
        "route_config",
        &json!({
            "name": name,
            "virtual_hosts": [{
                "name": "application",
                "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "application"}}],
            }],
        }),
    )
}

/// A listener that speaks HTTP; its routes are given in the member `routes_from`.
fn listener(name: &str, port: u16, routes_from: &str, routes: &Value) -> Value {
    json!({
        "name": name,
        "address": local_address(port),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": name,
                "codec_type": "AUTO",
                routes_from: routes,
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }],
            },
        }]}],
    })
}

/// App Mesh sets no limits of its own, so Envoy's (1,024 of each) must not become some.
pub(super) fn generous_circuit_breakers() -> Value {
    json!({"thresholds": [{
        "max_connections": 100_000,
        "max_pending_requests": 100_000,
        "max_requests": 100_000,
        "max_retries": 100_000,
    }]})
}

pub(super) fn file_source(path: &Path) -> Value {
    json!({"path_config_source": {"path": path}, "resource_api_version": "V3"})
}

pub(super) fn local_address(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

pub(super) fn discovery_response(version: u64, resources: &Value) -> Value {
    json!({"version_info": version.to_string(), "resources": resources})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_mesh_retries_and_timeouts_become_envoys() {
        let targets = BTreeMap::from([
            (ClusterName::new("mesh", "a"), 90),
            (ClusterName::new("mesh", "b"), 0),
        ]);
        let action = route_action(
            &targets,
            &json!({
                "timeout": {"perRequest": {"unit": "ms", "value": 2500}, "idle": {"unit": "s", "value": 60}},
                "retryPolicy": {
                    "maxRetries": 2,
                    "perRetryTimeout": {"unit": "ms", "value": 5},
                    "httpRetryEvents": ["gateway-error", "stream-error"],
                    "tcpRetryEvents": ["connection-error"],
                },
            }),
        );
        assert_eq!(
            action,
            json!({
                "weighted_clusters": {"clusters": [{"name": "mesh/a", "weight": 90}]},
                "timeout": "2.500s",
                "idle_timeout": "60s",
                "retry_policy": {
                    "retry_on": "refused-stream,connect-failure,retriable-status-codes",
                    "num_retries": 2,
                    "retriable_status_codes": [502, 503, 504],
                    "per_try_timeout": "0.005s",
                },
            })
        );
    }

    #[test]
    fn a_match_keeps_its_prefix_method_and_headers() {
        let matched = route_match(&json!({
            "prefix": "/cart",
            "method": "POST",
            "headers": [
                {"name": "x-tier", "match": {"exact": "gold"}, "invert": true},
                {"name": "x-any"},
                {"name": "x-build", "match": {"range": {"start": 10, "end": 20}}},
            ],
        }));
        assert_eq!(
            matched,
            json!({
                "prefix": "/cart",
                "headers": [
                    {"name": ":method", "string_match": {"exact": "POST"}},
                    {"name": "x-tier", "string_match": {"exact": "gold"}, "invert_match": true},
                    {"name": "x-any", "present_match": true},
                    {"name": "x-build", "range_match": {"start": 10, "end": 20}},
                ],
            })
        );
    }
}
