//! Load balancers, listeners and rules: the calls.

use aws_sdk_elasticloadbalancingv2::operation::describe_listeners::{
    DescribeListenersInput, DescribeListenersOutput,
};
use aws_sdk_elasticloadbalancingv2::operation::describe_load_balancers::{
    DescribeLoadBalancersInput, DescribeLoadBalancersOutput,
};
use aws_sdk_elasticloadbalancingv2::operation::describe_rules::{
    DescribeRulesInput, DescribeRulesOutput,
};
use aws_sdk_elasticloadbalancingv2::operation::modify_listener::{
    ModifyListenerInput, ModifyListenerOutput,
};
use aws_sdk_elasticloadbalancingv2::operation::modify_rule::{ModifyRuleInput, ModifyRuleOutput};
use aws_sdk_elasticloadbalancingv2::types::{
    Action, HostHeaderConditionConfig, Listener, LoadBalancer, PathPatternConditionConfig, Rule,
    RuleCondition,
};

use super::{
    LoadBalancing, Place, is_application, no_balancer, no_listener, no_rule, paged, validation,
};
use crate::wire::Refusal;
use crate::world::World;

/// The rule that a listener's default actions are.
pub(super) fn default_rule(listener: &Listener) -> Rule {
    let arn = listener
        .listener_arn()
        .unwrap_or_default()
        .replace(":listener/", ":listener-rule/");
    Rule::builder()
        .rule_arn(format!("{arn}/dddddddddddddddd"))
        .priority("default")
        .set_conditions(Some(Vec::new()))
        .set_actions(listener.default_actions.clone())
        .is_default(true)
        .build()
}

/// As Elastic Load Balancing shows conditions: hosts and paths in both forms.
pub(super) fn shown(conditions: &[RuleCondition]) -> Result<Vec<RuleCondition>, Refusal> {
    let both = |condition: &RuleCondition| {
        let mut condition = condition.clone();
        let values = condition.values.clone().or_else(|| {
            let host = condition.host_header_config.as_ref();
            let path = condition.path_pattern_config.as_ref();
            host.and_then(|config| config.values.clone())
                .or_else(|| path.and_then(|config| config.values.clone()))
        });
        match condition.field() {
            Some("host-header") => {
                condition.host_header_config = Some(
                    HostHeaderConditionConfig::builder()
                        .set_values(values.clone())
                        .build(),
                );
                condition.values = values;
            }
            Some("path-pattern") => {
                condition.path_pattern_config = Some(
                    PathPatternConditionConfig::builder()
                        .set_values(values.clone())
                        .build(),
                );
                condition.values = values;
            }
            Some("http-header" | "query-string" | "http-request-method" | "source-ip") => {}
            other => {
                return Err(validation(format!("The condition {other:?} is not valid")));
            }
        }
        Ok(condition)
    };
    if conditions.is_empty() {
        return Err(validation("A rule needs a condition"));
    }
    conditions.iter().map(both).collect()
}

pub(crate) fn describe_load_balancers(
    world: &mut World,
    input: &DescribeLoadBalancersInput,
) -> Result<DescribeLoadBalancersOutput, Refusal> {
    let all = &world.load_balancing;
    let (arns, names) = (input.load_balancer_arns(), input.names());
    if !arns.is_empty() && !names.is_empty() {
        return Err(validation("Names and ARNs exclude each other"));
    }
    let mut chosen: Vec<LoadBalancer> = Vec::new();
    for arn in arns {
        let found = all.balancer(arn).ok_or_else(|| no_balancer(arn))?;
        chosen.push(found.clone());
    }
    for name in names {
        let found = all
            .balancers
            .iter()
            .find(|balancer| balancer.load_balancer_name() == Some(name));
        chosen.push(found.ok_or_else(|| no_balancer(name))?.clone());
    }
    if arns.is_empty() && names.is_empty() {
        chosen.clone_from(&all.balancers);
    }
    let (items, next) = paged(
        &chosen,
        world.settings.page_size,
        input.page_size(),
        input.marker(),
    )?;
    Ok(DescribeLoadBalancersOutput::builder()
        .set_load_balancers(Some(items))
        .set_next_marker(next)
        .build())
}

pub(crate) fn describe_listeners(
    world: &mut World,
    input: &DescribeListenersInput,
) -> Result<DescribeListenersOutput, Refusal> {
    let all = &world.load_balancing;
    let chosen: Vec<Listener> = match (input.load_balancer_arn(), input.listener_arns()) {
        (Some(balancer), []) => {
            all.balancer(balancer)
                .ok_or_else(|| no_balancer(balancer))?;
            let of_it = |listener: &&Listener| listener.load_balancer_arn() == Some(balancer);
            all.listeners.iter().filter(of_it).cloned().collect()
        }
        (None, arns) if !arns.is_empty() => arns
            .iter()
            .map(|arn| all.listener(arn).cloned().ok_or_else(|| no_listener(arn)))
            .collect::<Result<_, _>>()?,
        _ => {
            return Err(validation(
                "You must specify either listener ARNs or a load balancer ARN",
            ));
        }
    };
    let (items, next) = paged(
        &chosen,
        world.settings.page_size,
        input.page_size(),
        input.marker(),
    )?;
    Ok(DescribeListenersOutput::builder()
        .set_listeners(Some(items))
        .set_next_marker(next)
        .build())
}

impl LoadBalancing {
    /// A rule of an Application Load Balancer by its ARN, the default ones included.
    fn rule(&self, arn: &str) -> Option<(Place<'_>, Rule)> {
        self.places()
            .filter(Place::is_application)
            .map(|place| (place, place.describe()))
            .find(|(_, rule)| rule.rule_arn() == Some(arn))
    }
}

pub(crate) fn describe_rules(
    world: &mut World,
    input: &DescribeRulesInput,
) -> Result<DescribeRulesOutput, Refusal> {
    let all = &world.load_balancing;
    let chosen: Vec<Rule> = match (input.listener_arn(), input.rule_arns()) {
        (Some(arn), []) => {
            let listener = all.listener(arn).ok_or_else(|| no_listener(arn))?;
            let places = all.places_of(listener);
            if !places.iter().all(Place::is_application) {
                return Err(Refusal::new(
                    "UnsupportedProtocol",
                    "Rules are unsupported for Network Load Balancer listeners",
                ));
            }
            places.iter().map(Place::describe).collect()
        }
        (None, arns) if !arns.is_empty() => arns
            .iter()
            .map(|arn| {
                let (_, rule) = all.rule(arn).ok_or_else(|| no_rule(arn))?;
                Ok(rule)
            })
            .collect::<Result<_, Refusal>>()?,
        _ => {
            return Err(validation(
                "You must specify either listener rule ARNs or a listener ARN",
            ));
        }
    };
    let (items, next) = paged(
        &chosen,
        world.settings.page_size,
        input.page_size(),
        input.marker(),
    )?;
    Ok(DescribeRulesOutput::builder()
        .set_rules(Some(items))
        .set_next_marker(next)
        .build())
}

pub(crate) fn modify_rule(
    world: &mut World,
    input: &ModifyRuleInput,
) -> Result<ModifyRuleOutput, Refusal> {
    let arn = input.rule_arn().unwrap_or_default();
    let all = &mut world.load_balancing;
    let (place, mut rule) = all.rule(arn).ok_or_else(|| no_rule(arn))?;
    if rule.is_default() == Some(true) {
        return Err(Refusal::new(
            "OperationNotPermitted",
            format!("Default rule '{arn}' cannot be modified"),
        ));
    }
    if input.conditions.is_none() && input.actions.is_none() && input.transforms.is_none() {
        return Err(validation("Nothing to modify was given"));
    }
    if input.reset_transforms == Some(true) {
        return Err(validation("ResetTransforms is not simulated"));
    }
    if let Some(actions) = &input.actions {
        rule.actions = Some(all.checked(place.listener, actions, rule.actions())?);
    }
    if let Some(conditions) = &input.conditions {
        rule.conditions = Some(shown(conditions)?);
    }
    if let Some(transforms) = &input.transforms {
        rule.transforms = Some(transforms.clone());
    }
    let found = all
        .rules
        .iter_mut()
        .find(|(_, rule)| rule.rule_arn() == Some(arn))
        .expect("it was found above");
    found.1 = rule.clone();
    Ok(ModifyRuleOutput::builder().rules(rule).build())
}

pub(crate) fn modify_listener(
    world: &mut World,
    input: &ModifyListenerInput,
) -> Result<ModifyListenerOutput, Refusal> {
    let arn = input.listener_arn().unwrap_or_default();
    let all = &mut world.load_balancing;
    let listener = all.listener(arn).ok_or_else(|| no_listener(arn))?;
    let others = input.port.is_some()
        || input.protocol.is_some()
        || input.ssl_policy.is_some()
        || input.certificates.is_some()
        || input.alpn_policy.is_some()
        || input.mutual_authentication.is_some();
    let Some(actions) = input.default_actions.as_ref().filter(|_| !others) else {
        return Err(validation("Only DefaultActions are simulated"));
    };
    let actions = all.checked(listener, actions, listener.default_actions())?;
    let listener = all
        .listeners
        .iter_mut()
        .find(|listener| listener.listener_arn() == Some(arn))
        .expect("it was found above");
    listener.default_actions = Some(actions);
    Ok(ModifyListenerOutput::builder()
        .listeners(listener.clone())
        .build())
}

/// What a builder of a world puts in, and what others do.
impl LoadBalancing {
    /// Writes the actions of a rule, or of a listener's default rule.
    pub(crate) fn write_actions(
        &mut self,
        listener: &str,
        rule: Option<&str>,
        actions: Vec<Action>,
    ) {
        let found = self.listener(listener).expect("the listener is there");
        let before = match rule {
            None => found.default_actions().to_vec(),
            Some(rule) => {
                let (_, rule) = self.rule(rule).expect("the rule is there");
                rule.actions().to_vec()
            }
        };
        let mut given = actions;
        for action in &mut given {
            if let Some(config) = &mut action.authenticate_oidc_config {
                config.use_existing_client_secret = Some(true);
            }
            if action.forward_config.is_some() {
                action.target_group_arn = None;
            }
        }
        let given = self
            .checked(found, &given, &before)
            .expect("what somebody writes is valid");
        match rule {
            None => {
                let found = self
                    .listeners
                    .iter_mut()
                    .find(|found| found.listener_arn() == Some(listener));
                found.expect("it is there").default_actions = Some(given);
            }
            Some(rule) => {
                let found = self
                    .rules
                    .iter_mut()
                    .find(|(_, found)| found.rule_arn() == Some(rule));
                found.expect("it is there").1.actions = Some(given);
            }
        }
    }

    /// Adds a load balancer; gives its ARN.
    pub(crate) fn add_balancer(&mut self, name: &str, application: bool, vpc: &str) -> String {
        use aws_sdk_elasticloadbalancingv2::types::{
            IpAddressType, LoadBalancerSchemeEnum, LoadBalancerState, LoadBalancerStateEnum,
            LoadBalancerTypeEnum,
        };
        let (short, kind) = if application {
            ("app", LoadBalancerTypeEnum::Application)
        } else {
            ("net", LoadBalancerTypeEnum::Network)
        };
        let hash = self.next_hash();
        let arn = super::arn(&format!("loadbalancer/{short}/{name}/{hash}"));
        let active = LoadBalancerState::builder()
            .code(LoadBalancerStateEnum::Active)
            .build();
        self.balancers.push(
            LoadBalancer::builder()
                .load_balancer_arn(&arn)
                .load_balancer_name(name)
                .dns_name(format!("{name}-1234567890.eu-west-1.elb.amazonaws.com"))
                .scheme(LoadBalancerSchemeEnum::Internal)
                .r#type(kind)
                .vpc_id(vpc)
                .ip_address_type(IpAddressType::Ipv4)
                .state(active)
                .build(),
        );
        arn
    }

    /// Adds a listener; its load balancer and actions are checked as those of a call are. Gives its ARN.
    pub(crate) fn add_listener(&mut self, mut listener: Listener) -> String {
        let balancer = listener
            .load_balancer_arn()
            .expect("the builder names the load balancer")
            .to_owned();
        let application = self.balancer(&balancer).is_some_and(is_application);
        let hash = self.next_hash();
        let arn = format!(
            "{}/{hash}",
            balancer.replace(":loadbalancer/", ":listener/")
        );
        listener.listener_arn = Some(arn.clone());
        assert!(
            application || listener.default_actions().len() == 1,
            "a Network Load Balancer forwards"
        );
        let actions = self
            .checked(&listener, listener.default_actions(), &[])
            .expect("the builder's actions are valid");
        listener.default_actions = Some(actions);
        self.listeners.push(listener);
        arn
    }

    /// Adds a rule; gives its ARN.
    pub(crate) fn add_rule(&mut self, listener: &str, mut rule: Rule) -> String {
        let hash = self.next_hash();
        let arn = format!(
            "{}/{hash}",
            listener.replace(":listener/", ":listener-rule/")
        );
        let found = self.listener(listener).expect("the builder made it");
        rule.actions = Some(
            self.checked(found, rule.actions(), &[])
                .expect("the builder's actions are valid"),
        );
        rule.conditions = Some(shown(rule.conditions()).expect("the builder's are valid"));
        rule.rule_arn = Some(arn.clone());
        rule.is_default = Some(false);
        self.rules.push((listener.to_owned(), rule));
        arn
    }
}
