//! Envoy's configuration when it plays a load balancer: listeners, rules and target groups in Envoy's words.
//!
//! Only shapes are made here; when they are written and in which order is the load balancer agent's business.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::envoy_config::{
    discovery_response, file_source, generous_circuit_breakers, local_address,
};
use super::targets::{Health, Target};
use crate::load_balancing::{Listener, Rule, TargetGroup, list, metric_name, number};

/// How long a target may take to answer: the idle time-out that a load balancer has when nobody changes it.
const IDLE_TIMEOUT: &str = "60s";

/// What Envoy says when the target was asked and gave no answer. A load balancer calls it 502, Envoy 503.
const NO_ANSWER: [&str; 4] = ["UF", "UC", "UR", "UPE"];

/// The load balancer's own configuration: listeners and clusters come from files.
pub(crate) fn load_balancer(admin_port: u16, listeners: &Path, clusters: &Path) -> Value {
    json!({
        "node": {"id": "load-balancer", "cluster": "serin-local"},
        "admin": {"address": local_address(admin_port)},
        "dynamic_resources": {"cds_config": file_source(clusters), "lds_config": file_source(listeners)},
    })
}

/// A listener as Envoy is told of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ListenerPlace {
    /// Its name in Envoy, in statistics and in the access log.
    pub(crate) name: String,
    /// The port of this machine at which it listens.
    pub(crate) port: u16,
    /// The load balancer, as CloudWatch knows it.
    pub(crate) load_balancer: String,
}

/// The list of listeners, each with the file of its routes.
pub(crate) fn listeners<'a>(
    version: u64,
    places: impl Iterator<Item = &'a ListenerPlace>,
    routes_file: impl Fn(&ListenerPlace) -> std::path::PathBuf,
    access_log: &Path,
) -> Value {
    let resources: Vec<Value> = places
        .map(|place| listener(place, &routes_file(place), access_log))
        .collect();
    discovery_response(version, &Value::Array(resources))
}

fn listener(place: &ListenerPlace, routes: &Path, access_log: &Path) -> Value {
    json!({
        "@type": "type.googleapis.com/envoy.config.listener.v3.Listener",
        "name": place.name,
        "address": local_address(place.port),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                "stat_prefix": place.name,
                // HTTP/1.1, and HTTP/2 by its preface.
                "codec_type": "AUTO",
                "rds": {"route_config_name": place.name, "config_source": file_source(routes)},
                "access_log": [{
                    "name": "envoy.access_loggers.file",
                    "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
                        "path": access_log,
                        "log_format": {"json_format": {
                            "loadBalancer": place.load_balancer,
                            "targetGroup": "%UPSTREAM_CLUSTER_RAW%",
                            "code": "%RESPONSE_CODE%",
                            "details": "%RESPONSE_CODE_DETAILS%",
                            "flags": "%RESPONSE_FLAGS%",
                            "start": "%START_TIME(%s.%3f)%",
                            "milliseconds": "%DURATION%",
                            "targetMicroseconds": "%COMMON_DURATION(US_TX_END:US_RX_BEG:us)%",
                        }},
                    },
                }],
                "local_reply_config": {"mappers": [{
                    "filter": {"response_flag_filter": {"flags": NO_ANSWER}},
                    "status_code": 502,
                }]},
                "http_filters": [{
                    "name": "envoy.filters.http.router",
                    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
                }],
            },
        }]}],
    })
}

/// The list of clusters, one for each target group, under the group's name in CloudWatch.
pub(crate) fn clusters<'a>(
    version: u64,
    groups: impl Iterator<Item = &'a TargetGroup>,
    endpoints_file: impl Fn(&str) -> std::path::PathBuf,
) -> Value {
    let resources: Vec<Value> = groups
        .map(|group| cluster(group, &endpoints_file(&group.arn)))
        .collect();
    discovery_response(version, &Value::Array(resources))
}

fn cluster(group: &TargetGroup, endpoints: &Path) -> Value {
    let algorithm = group
        .attributes
        .get("load_balancing.algorithm.type")
        .map_or("", String::as_str);
    let mut cluster = json!({
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": metric_name(&group.arn),
        "type": "EDS",
        "eds_cluster_config": {"eds_config": file_source(endpoints)},
        "connect_timeout": "5s",
        "lb_policy": match algorithm {
            "least_outstanding_requests" => "LEAST_REQUEST",
            "weighted_random" => "RANDOM",
            _ => "ROUND_ROBIN",
        },
        // Which targets get requests is decided where their health is known.
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "circuit_breakers": generous_circuit_breakers(),
    });
    if group.http2 {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        });
    }
    cluster
}

/// The endpoints of one target group. A target that drains stays, so that what it works on is not cut, and gets nothing
/// new. If every target is unhealthy all of them get requests, as with a load balancer.
pub(crate) fn endpoints(version: u64, group: &str, targets: &[(Target, Health)]) -> Value {
    let none_is_healthy = !targets.iter().any(|(_, health)| *health == Health::Healthy);
    let each: Vec<Value> = targets
        .iter()
        .map(|(target, health)| {
            let status = match health {
                Health::Healthy => "HEALTHY",
                Health::Unhealthy if none_is_healthy => "HEALTHY",
                Health::Unhealthy | Health::Initial | Health::Unused => "UNHEALTHY",
                Health::Draining => "DRAINING",
            };
            json!({
                "endpoint": {"address": {"socket_address": {
                    "address": target.address, "port_value": target.port,
                }}},
                "health_status": status,
            })
        })
        .collect();
    discovery_response(
        version,
        &json!([{
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": metric_name(group),
            "endpoints": [{"lb_endpoints": each}],
        }]),
    )
}

/// The routes of a listener, and what of its rules cannot be played.
pub(crate) fn routes(version: u64, name: &str, listener: &Listener) -> (Value, Vec<String>) {
    let mut unknown = Vec::new();
    let routes: Vec<Value> = listener
        .rules
        .iter()
        .filter_map(|rule| route(rule, &mut unknown))
        .collect();
    let table = discovery_response(
        version,
        &json!([{
            "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            "name": name,
            "virtual_hosts": [{"name": name, "domains": ["*"], "routes": routes}],
        }]),
    );
    (table, unknown)
}

/// `None` if the rule has a condition that cannot be played: it then matches nothing.
fn route(rule: &Rule, unknown: &mut Vec<String>) -> Option<Value> {
    let mut route = Map::new();
    route.insert(
        "match".to_owned(),
        matches(&rule.conditions)
            .map_err(|what| unknown.push(what))
            .ok()?,
    );
    let name = rule
        .priority
        .map_or("default".to_owned(), |priority| priority.to_string());
    route.insert("name".to_owned(), json!(name));
    let (member, action) = action(rule, unknown);
    route.insert(member.to_owned(), action);
    Some(Value::Object(route))
}

/// What Envoy does with a request that meets a rule. Who a caller is, is not asked: authenticating is passed over.
fn action(rule: &Rule, unknown: &mut Vec<String>) -> (&'static str, Value) {
    let direct =
        |status: u64, body: &str| json!({"status": status, "body": {"inline_string": body}});
    let decisive = list(&rule.actions).find(|action| {
        action["Type"]
            .as_str()
            .is_some_and(|kind| !kind.starts_with("authenticate"))
    });
    match decisive.and_then(|action| action["Type"].as_str()) {
        Some("forward") => {
            let targets = rule.targets();
            let stickiness =
                decisive.map(|action| &action["ForwardConfig"]["TargetGroupStickinessConfig"]);
            if stickiness.is_some_and(|stickiness| stickiness["Enabled"] == "true") {
                unknown.push("target group stickiness is not played".to_owned());
            }
            // A group without weight is left out: Envoy would give it nothing either.
            let weighted: Vec<Value> = targets
                .iter()
                .filter(|(_, weight)| **weight > 0)
                .map(|(arn, weight)| json!({"name": metric_name(arn), "weight": weight}))
                .collect();
            if weighted.is_empty() {
                // Envoy refuses a table with such a route, which would keep all other changes out as well.
                return ("direct_response", direct(503, ""));
            }
            (
                "route",
                json!({"weighted_clusters": {"clusters": weighted}, "timeout": IDLE_TIMEOUT}),
            )
        }
        Some("fixed-response") => {
            let fixed = decisive.map_or(&Value::Null, |action| &action["FixedResponseConfig"]);
            let body = fixed["MessageBody"].as_str().unwrap_or_default();
            (
                "direct_response",
                direct(number(&fixed["StatusCode"]).unwrap_or(503), body),
            )
        }
        other => {
            unknown.push(format!("an action {} is not played", other.unwrap_or("")));
            ("direct_response", direct(501, ""))
        }
    }
}

/// A rule's conditions; all have to be met. The error is a condition that cannot be played.
fn matches(conditions: &Value) -> Result<Value, String> {
    let mut matches = Map::new();
    matches.insert("prefix".to_owned(), json!("/"));
    let mut headers = Vec::new();
    let mut parameters = Vec::new();
    for condition in list(conditions) {
        let field = condition["Field"].as_str().unwrap_or_default();
        // An old form has the values in the condition itself.
        let values = |configuration: &str| -> Vec<&str> {
            list(&condition[configuration]["Values"])
                .chain(list(&condition["Values"]))
                .filter_map(Value::as_str)
                .collect()
        };
        match field {
            "path-pattern" => {
                matches.remove("prefix");
                let regex = any_of(&values("PathPatternConfig"));
                matches.insert("safe_regex".to_owned(), json!({"regex": regex}));
            }
            "host-header" => {
                let regex = format!("(?i){}(?::[0-9]+)?", any_of(&values("HostHeaderConfig")));
                headers.push(header(":authority", &regex));
            }
            "http-header" => {
                let name = condition["HttpHeaderConfig"]["HttpHeaderName"].as_str();
                let regex = format!("(?i){}", any_of(&values("HttpHeaderConfig")));
                headers.push(header(&name.unwrap_or_default().to_lowercase(), &regex));
            }
            "http-request-method" => {
                headers.push(header(
                    ":method",
                    &any_of(&values("HttpRequestMethodConfig")),
                ));
            }
            "query-string" => {
                let all: Vec<&Value> = list(&condition["QueryStringConfig"]["Values"]).collect();
                let [only] = all.as_slice() else {
                    return Err("a query string with several values is not played".to_owned());
                };
                let Some(key) = only["Key"].as_str() else {
                    return Err("a query string without a key is not played".to_owned());
                };
                let regex = any_of(&[only["Value"].as_str().unwrap_or_default()]);
                parameters
                    .push(json!({"name": key, "string_match": {"safe_regex": {"regex": regex}}}));
            }
            other => return Err(format!("a condition on {other} is not played")),
        }
    }
    if !headers.is_empty() {
        matches.insert("headers".to_owned(), Value::Array(headers));
    }
    if !parameters.is_empty() {
        matches.insert("query_parameters".to_owned(), Value::Array(parameters));
    }
    Ok(Value::Object(matches))
}

fn header(name: &str, regex: &str) -> Value {
    json!({"name": name, "string_match": {"safe_regex": {"regex": regex}}})
}

/// A regular expression for any of these patterns, in which `*` stands for anything and `?` for one character.
fn any_of(patterns: &[&str]) -> String {
    let each: Vec<String> = patterns
        .iter()
        .map(|pattern| {
            pattern
                .chars()
                .map(|character| match character {
                    '*' => ".*".to_owned(),
                    '?' => ".".to_owned(),
                    letter if letter.is_alphanumeric() || "/_-~".contains(letter) => {
                        letter.to_string()
                    }
                    other => format!("\\{other}"),
                })
                .collect()
        })
        .collect();
    format!("(?:{})", each.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STABLE: &str = "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/checkout/01";
    const CANARY: &str = "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/checkout-canary/02";

    fn forward(weights: &[(&str, u32)]) -> Value {
        let groups: Vec<Value> = weights
            .iter()
            .map(|(arn, weight)| json!({"TargetGroupArn": arn, "Weight": weight.to_string()}))
            .collect();
        json!([{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}])
    }

    fn played(conditions: Value, actions: Value) -> Option<Value> {
        let rule = Rule {
            priority: Some(10),
            conditions,
            actions,
        };
        route(&rule, &mut Vec::new())
    }

    #[test]
    fn a_rules_weights_are_envoys_and_a_group_without_weight_is_left_out() {
        let clusters = |weights: &[(&str, u32)]| {
            played(json!([]), forward(weights)).unwrap()["route"]["weighted_clusters"]["clusters"]
                .clone()
        };
        assert_eq!(
            clusters(&[(STABLE, 995), (CANARY, 5)]),
            json!([
                {"name": "targetgroup/checkout-canary/02", "weight": 5},
                {"name": "targetgroup/checkout/01", "weight": 995},
            ])
        );
        assert_eq!(
            clusters(&[(STABLE, 0), (CANARY, 999)]),
            json!([{"name": "targetgroup/checkout-canary/02", "weight": 999}])
        );
    }

    #[test]
    fn a_rule_without_any_weight_answers_503() {
        let route = played(json!([]), forward(&[(STABLE, 0)])).unwrap();
        assert_eq!(route["direct_response"]["status"], 503);
    }

    #[test]
    fn a_fixed_response_is_given_and_authenticating_is_passed_over() {
        let fixed = json!([{"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "404", "MessageBody": "none"}}]);
        let route = played(json!([]), fixed).unwrap();
        assert_eq!(route["direct_response"]["status"], 404);
        let mut actions = forward(&[(STABLE, 1)]);
        let authenticate = json!({"Type": "authenticate-oidc"});
        actions.as_array_mut().unwrap().insert(0, authenticate);
        let route = played(json!([]), actions).unwrap();
        assert_eq!(route["route"]["timeout"], IDLE_TIMEOUT);
    }

    #[test]
    fn patterns_of_paths_and_hosts_become_expressions() {
        let conditions = json!([
            {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/cart/*", "/v?.json"]}},
            {"Field": "host-header", "Values": ["*.example.com"]},
        ]);
        let route = played(conditions, forward(&[(STABLE, 1)])).unwrap();
        assert_eq!(
            route["match"],
            json!({
                "safe_regex": {"regex": r"(?:/cart/.*|/v.\.json)"},
                "headers": [{
                    "name": ":authority",
                    "string_match": {"safe_regex": {"regex": r"(?i)(?:.*\.example\.com)(?::[0-9]+)?"}},
                }],
            })
        );
    }

    #[test]
    fn a_rule_with_an_unknown_condition_matches_nothing_and_is_told() {
        let rule = Rule {
            priority: Some(1),
            conditions: json!([{"Field": "source-ip"}]),
            actions: forward(&[(STABLE, 1)]),
        };
        let mut unknown = Vec::new();
        assert_eq!(route(&rule, &mut unknown), None);
        assert_eq!(unknown, ["a condition on source-ip is not played"]);
    }

    #[test]
    fn targets_that_drain_stay_and_unhealthy_ones_are_asked_only_when_no_other_is_left() {
        let statuses = |healths: &[Health]| -> Vec<String> {
            let targets: Vec<(Target, Health)> = healths
                .iter()
                .zip(1..)
                .map(|(health, port)| {
                    let address = "127.0.0.1".to_owned();
                    (Target { address, port }, *health)
                })
                .collect();
            let written = endpoints(1, STABLE, &targets);
            list(&written["resources"][0]["endpoints"][0]["lb_endpoints"])
                .map(|endpoint| endpoint["health_status"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(
            statuses(&[
                Health::Healthy,
                Health::Unhealthy,
                Health::Draining,
                Health::Initial
            ]),
            ["HEALTHY", "UNHEALTHY", "DRAINING", "UNHEALTHY"]
        );
        assert_eq!(
            statuses(&[Health::Unhealthy, Health::Initial]),
            ["HEALTHY", "UNHEALTHY"]
        );
    }
}
