//! Load balancers as moto keeps them, read and brought into the form in which AWS shows them.
//!
//! The gateway repairs answers with it, and the data plane programs Envoy from it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::moto::{Moto, MotoError};

/// A listener with its rules in the order in which they are tried; the default one is the last.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Listener {
    pub(crate) arn: String,
    pub(crate) load_balancer: String,
    pub(crate) port: u16,
    pub(crate) rules: Vec<Rule>,
}

/// A rule of a listener.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    /// `None` for the default rule.
    pub(crate) priority: Option<u32>,
    pub(crate) conditions: Value,
    /// As AWS shows them.
    pub(crate) actions: Value,
}

/// A target group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TargetGroup {
    pub(crate) arn: String,
    pub(crate) name: String,
    /// Whether its targets are spoken to in HTTP/2.
    pub(crate) http2: bool,
    pub(crate) health_check: HealthCheck,
    /// Its attributes, such as `deregistration_delay.timeout_seconds`.
    pub(crate) attributes: BTreeMap<String, String>,
}

/// How a target group's targets are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthCheck {
    pub(crate) path: String,
    /// Another port than that of the traffic.
    pub(crate) port: Option<u16>,
    pub(crate) interval_seconds: u64,
    pub(crate) timeout_seconds: u64,
    pub(crate) healthy_threshold: u32,
    pub(crate) unhealthy_threshold: u32,
    /// The codes that are healthy, such as `200-299,304`.
    pub(crate) matcher: String,
}

impl Rule {
    /// The target groups to which the rule forwards, each with its weight.
    pub(crate) fn targets(&self) -> BTreeMap<String, u64> {
        let mut targets = BTreeMap::new();
        for action in list(&self.actions).filter(|action| action["Type"] == "forward") {
            for group in list(&action["ForwardConfig"]["TargetGroups"]) {
                if let Some(arn) = group["TargetGroupArn"].as_str() {
                    *targets.entry(arn.to_owned()).or_insert(0) +=
                        number(&group["Weight"]).unwrap_or(1);
                }
            }
        }
        targets
    }
}

impl HealthCheck {
    /// Whether a target that answers with this code is healthy.
    pub(crate) fn matches(&self, code: u16) -> bool {
        self.matcher.split(',').any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            matches!(
                (first.trim().parse::<u16>(), last.trim().parse::<u16>()),
                (Ok(first), Ok(last)) if (first..=last).contains(&code)
            )
        })
    }
}

/// All listeners of all application load balancers, in the order of their ports.
pub(crate) async fn listeners(moto: &Moto) -> Result<Vec<Listener>, MotoError> {
    let mut listeners = Vec::new();
    let balancers = moto
        .load_balancing("DescribeLoadBalancers", &json!({}))
        .await?;
    for load_balancer in texts(&balancers["LoadBalancers"], "LoadBalancerArn") {
        let request = json!({"LoadBalancerArn": load_balancer});
        let described = moto.load_balancing("DescribeListeners", &request).await?;
        for listener in list(&described["Listeners"]) {
            let Some(arn) = listener["ListenerArn"].as_str() else {
                continue;
            };
            let request = json!({"ListenerArn": arn});
            let mut described = moto.load_balancing("DescribeRules", &request).await?;
            as_aws_shows(&mut described);
            let mut rules: Vec<Rule> = list(&described["Rules"])
                .map(|rule| Rule {
                    priority: number(&rule["Priority"]).and_then(|it| u32::try_from(it).ok()),
                    conditions: rule["Conditions"].clone(),
                    actions: rule["Actions"].clone(),
                })
                .collect();
            rules.sort_by_key(|rule| rule.priority.unwrap_or(u32::MAX));
            listeners.push(Listener {
                arn: arn.to_owned(),
                load_balancer: load_balancer.clone(),
                port: number(&listener["Port"])
                    .and_then(|port| u16::try_from(port).ok())
                    .unwrap_or_default(),
                rules,
            });
        }
    }
    listeners.sort_by_key(|listener| (listener.port, listener.arn.clone()));
    Ok(listeners)
}

/// All target groups.
pub(crate) async fn target_groups(moto: &Moto) -> Result<Vec<TargetGroup>, MotoError> {
    let described = moto
        .load_balancing("DescribeTargetGroups", &json!({}))
        .await?;
    let mut groups = Vec::new();
    for group in list(&described["TargetGroups"]) {
        let Some(arn) = group["TargetGroupArn"].as_str() else {
            continue;
        };
        let request = json!({"TargetGroupArn": arn});
        let attributes = moto
            .load_balancing("DescribeTargetGroupAttributes", &request)
            .await?;
        groups.push(target_group(arn, group, &attributes["Attributes"]));
    }
    Ok(groups)
}

fn target_group(arn: &str, group: &Value, attributes: &Value) -> TargetGroup {
    let text = |name: &str| group[name].as_str().unwrap_or_default().to_owned();
    let count = |name: &str, default: u32| {
        number(&group[name])
            .and_then(|value| u32::try_from(value).ok())
            .unwrap_or(default)
    };
    TargetGroup {
        arn: arn.to_owned(),
        name: text("TargetGroupName"),
        http2: matches!(group["ProtocolVersion"].as_str(), Some("HTTP2" | "GRPC")),
        health_check: HealthCheck {
            path: text("HealthCheckPath"),
            port: text("HealthCheckPort").parse().ok(),
            interval_seconds: count("HealthCheckIntervalSeconds", 30).into(),
            timeout_seconds: count("HealthCheckTimeoutSeconds", 5).into(),
            healthy_threshold: count("HealthyThresholdCount", 5),
            unhealthy_threshold: count("UnhealthyThresholdCount", 2),
            matcher: group["Matcher"]["HttpCode"]
                .as_str()
                .or(group["Matcher"]["GrpcCode"].as_str())
                .unwrap_or("200")
                .to_owned(),
        },
        attributes: list(attributes)
            .filter_map(|attribute| {
                Some((
                    attribute["Key"].as_str()?.to_owned(),
                    attribute["Value"].as_str()?.to_owned(),
                ))
            })
            .collect(),
    }
}

/// The load balancers that use each target group, whatever its weight.
pub(crate) fn attachments(listeners: &[Listener]) -> BTreeMap<String, BTreeSet<String>> {
    let mut attachments: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for listener in listeners {
        for group in listener.rules.iter().flat_map(Rule::targets) {
            attachments
                .entry(group.0)
                .or_default()
                .insert(listener.load_balancer.clone());
        }
    }
    attachments
}

/// The end of an ARN by which CloudWatch knows a load balancer or a target group: `app/demo/0123`,
/// `targetgroup/checkout/4567`.
pub(crate) fn metric_name(arn: &str) -> &str {
    let resource = arn.rsplit(':').next().unwrap_or(arn);
    resource.strip_prefix("loadbalancer/").unwrap_or(resource)
}

/// The name in a target group's ARN.
pub(crate) fn group_name(arn: &str) -> &str {
    arn.split('/').nth(1).unwrap_or(arn)
}

/// Brings the actions in an answer about rules and listeners into the form in which AWS shows them.
///
/// Moto repeats what it was given. AWS shows a forward to one target group with its ARN and as a configuration with one
/// group; a forward to several only as a configuration; and no secret.
pub(crate) fn as_aws_shows(answer: &mut Value) {
    for (things, member) in [("Rules", "Actions"), ("Listeners", "DefaultActions")] {
        let things = answer.get_mut(things).and_then(Value::as_array_mut);
        for thing in things.into_iter().flatten() {
            let actions = thing.get_mut(member).and_then(Value::as_array_mut);
            for action in actions.into_iter().flatten() {
                if let Value::Object(action) = action {
                    show_action(action);
                }
            }
        }
    }
}

fn show_action(action: &mut Map<String, Value>) {
    if let Some(Value::Object(client)) = action.get_mut("AuthenticateOidcConfig") {
        client.remove("ClientSecret");
        client.remove("UseExistingClientSecret");
    }
    if action.get("Type").and_then(Value::as_str) != Some("forward") {
        return;
    }
    let named = action.remove("TargetGroupArn");
    let mut configuration = match action.remove("ForwardConfig") {
        Some(Value::Object(configuration)) => configuration,
        _ => Map::new(),
    };
    let mut groups: Vec<Value> = configuration
        .get("TargetGroups")
        .map(|groups| list(groups).cloned().collect())
        .unwrap_or_default();
    if groups.is_empty() {
        groups.extend(named.map(|arn| json!({"TargetGroupArn": arn})));
    }
    for group in &mut groups {
        if let Value::Object(group) = group {
            group.entry("Weight").or_insert_with(|| json!("1"));
        }
    }
    if let [only] = groups.as_slice() {
        action.insert("TargetGroupArn".to_owned(), only["TargetGroupArn"].clone());
    }
    let stickiness = configuration
        .entry("TargetGroupStickinessConfig")
        .or_insert_with(|| json!({}));
    if !stickiness.is_object() {
        *stickiness = json!({});
    }
    if stickiness.get("Enabled").is_none() {
        stickiness["Enabled"] = json!("false");
    }
    configuration.insert("TargetGroups".to_owned(), Value::Array(groups));
    action.insert("ForwardConfig".to_owned(), Value::Object(configuration));
}

/// The elements of a list; an empty element of XML has none.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts(listed: &Value, member: &str) -> Vec<String> {
    list(listed)
        .filter_map(|entry| entry[member].as_str().map(ToOwned::to_owned))
        .collect()
}

/// A number, which XML holds as a text.
pub(crate) fn number(value: &Value) -> Option<u64> {
    value
        .as_u64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{HealthCheck, Rule, as_aws_shows, metric_name};

    #[test]
    fn a_forward_to_one_group_is_shown_with_its_arn_and_a_configuration() {
        let shown = json!({
            "Type": "forward", "TargetGroupArn": "a",
            "ForwardConfig": {
                "TargetGroups": [{"TargetGroupArn": "a", "Weight": "1"}],
                "TargetGroupStickinessConfig": {"Enabled": "false"},
            },
        });
        for given in [
            json!({"Type": "forward", "TargetGroupArn": "a"}),
            json!({"Type": "forward", "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": "a"}]}}),
            shown.clone(),
        ] {
            let mut answer = json!({"Rules": [{"Actions": [given]}]});
            as_aws_shows(&mut answer);
            assert_eq!(answer["Rules"][0]["Actions"][0], shown);
        }
    }

    #[test]
    fn a_forward_to_several_groups_is_shown_only_as_a_configuration() {
        let mut answer = json!({"Listeners": [{"DefaultActions": [{
            "Type": "forward", "TargetGroupArn": "a",
            "ForwardConfig": {"TargetGroups": [{"TargetGroupArn": "a", "Weight": "900"}, {"TargetGroupArn": "b", "Weight": "100"}]},
        }]}]});
        as_aws_shows(&mut answer);
        let action = &answer["Listeners"][0]["DefaultActions"][0];
        assert!(action.get("TargetGroupArn").is_none());
        assert_eq!(action["ForwardConfig"]["TargetGroups"][1]["Weight"], "100");
    }

    #[test]
    fn no_secret_is_shown() {
        let mut answer = json!({"Rules": [{"Actions": [
            {"Type": "authenticate-oidc", "AuthenticateOidcConfig": {"ClientId": "i", "ClientSecret": "s", "UseExistingClientSecret": "true"}},
        ]}]});
        as_aws_shows(&mut answer);
        assert_eq!(
            answer["Rules"][0]["Actions"][0]["AuthenticateOidcConfig"],
            json!({"ClientId": "i"})
        );
    }

    #[test]
    fn a_rules_targets_are_those_of_its_forward_action() {
        let rule = Rule {
            priority: None,
            conditions: json!([]),
            actions: json!([{"Type": "forward", "ForwardConfig": {"TargetGroups": [
                {"TargetGroupArn": "a", "Weight": "999"}, {"TargetGroupArn": "b", "Weight": "0"},
            ]}}]),
        };
        assert_eq!(
            rule.targets(),
            [("a".to_owned(), 999), ("b".to_owned(), 0)].into()
        );
    }

    #[test]
    fn a_matcher_has_codes_and_ranges() {
        let check = HealthCheck {
            path: "/".to_owned(),
            port: None,
            interval_seconds: 5,
            timeout_seconds: 2,
            healthy_threshold: 2,
            unhealthy_threshold: 2,
            matcher: "200-299,304".to_owned(),
        };
        assert!(check.matches(204) && check.matches(304));
        assert!(!check.matches(302));
    }

    #[test]
    fn cloud_watch_knows_the_end_of_an_arn() {
        let balancer = "arn:aws:elasticloadbalancing:us-east-1:1:loadbalancer/app/demo/01";
        assert_eq!(metric_name(balancer), "app/demo/01");
        let group = "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/checkout/02";
        assert_eq!(metric_name(group), "targetgroup/checkout/02");
    }
}
