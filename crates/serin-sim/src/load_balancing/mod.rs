//! Elastic Load Balancing v2: load balancers, listeners, rules, target groups and their targets.

mod actions;
mod attributes;
mod groups;
mod rules;
mod tags;
mod targets;
mod traffic;

use std::collections::BTreeMap;

use aws_sdk_elasticloadbalancingv2::types::{
    Action, Listener, LoadBalancer, LoadBalancerTypeEnum, Rule, TargetGroup, TargetGroupTuple,
};

pub use actions::{tuples, tuples_mut};
pub(crate) use attributes::defaults;
pub(crate) use groups::{
    create_target_group, delete_target_group, describe_target_group_attributes,
    describe_target_groups, modify_target_group_attributes,
};
pub(crate) use rules::{
    describe_listeners, describe_load_balancers, describe_rules, modify_listener, modify_rule,
};
pub(crate) use tags::{add_tags, describe_tags, remove_tags};
pub(crate) use targets::{Target, TargetState, describe_target_health};
pub(crate) use traffic::BalancerTraffic;

use crate::account::{ACCOUNT, REGION};
use crate::paging::page;
use crate::wire::Refusal;

/// Keys with their values: the tags or the attributes of something.
pub(crate) type Pairs = BTreeMap<String, String>;

/// What the account has of Elastic Load Balancing.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoadBalancing {
    pub(crate) balancers: Vec<LoadBalancer>,
    /// Each with its default actions.
    pub(crate) listeners: Vec<Listener>,
    /// The rules that are not default ones, with their listener's ARN.
    pub(crate) rules: Vec<(String, Rule)>,
    pub(crate) groups: Vec<Group>,
    /// The tags of everything, by ARN.
    pub(crate) tags: BTreeMap<String, Pairs>,
    next_id: u64,
}

/// A target group.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    /// Without its load balancers, which follow from the rules.
    pub(crate) data: TargetGroup,
    pub(crate) attributes: Pairs,
    pub(crate) targets: Vec<Target>,
}

impl Group {
    pub(crate) fn arn(&self) -> &str {
        self.data
            .target_group_arn()
            .expect("every target group has an ARN")
    }

    pub(crate) fn name(&self) -> &str {
        self.data
            .target_group_name()
            .expect("every target group has a name")
    }

    /// How long a target drains, in seconds.
    pub(crate) fn deregistration_delay(&self) -> i64 {
        self.attributes
            .get("deregistration_delay.timeout_seconds")
            .and_then(|seconds| seconds.parse().ok())
            .unwrap_or(0)
    }

    pub(crate) fn healthy_targets(&self) -> usize {
        self.targets
            .iter()
            .filter(|target| target.state == TargetState::Healthy)
            .count()
    }
}

/// Somewhere that has actions: a rule, or the default actions of a listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) balancer: &'a LoadBalancer,
    pub(crate) listener: &'a Listener,
    /// `None` is the default rule.
    pub(crate) rule: Option<&'a Rule>,
    pub(crate) actions: &'a [Action],
}

impl Place<'_> {
    /// Its name in the words of the tests: `checkout-alb:443/10`, `checkout-alb:8443/default`.
    pub(crate) fn path(&self) -> String {
        let priority = self.rule.and_then(Rule::priority).unwrap_or("default");
        format!(
            "{}:{}/{priority}",
            self.balancer.load_balancer_name().unwrap_or_default(),
            self.listener.port().unwrap_or_default()
        )
    }

    pub(crate) fn is_application(&self) -> bool {
        is_application(self.balancer)
    }

    /// As `DescribeRules` gives it. A Network Load Balancer's default actions are shown in the same form.
    pub(crate) fn describe(&self) -> Rule {
        self.rule
            .cloned()
            .unwrap_or_else(|| rules::default_rule(self.listener))
    }
}

pub(crate) fn is_application(balancer: &LoadBalancer) -> bool {
    balancer.r#type() == Some(&LoadBalancerTypeEnum::Application)
}

impl LoadBalancing {
    /// Sixteen hexadecimal digits, as at the end of an ARN.
    fn next_hash(&mut self) -> String {
        self.next_id += 1;
        format!("{:016x}", 0x00c0_ffee_0000_0000 + self.next_id)
    }

    pub(crate) fn group(&self, arn: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.arn() == arn)
    }

    pub(crate) fn group_mut(&mut self, arn: &str) -> Option<&mut Group> {
        self.groups.iter_mut().find(|group| group.arn() == arn)
    }

    pub(crate) fn group_named(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name() == name)
    }

    fn balancer(&self, arn: &str) -> Option<&LoadBalancer> {
        self.balancers
            .iter()
            .find(|balancer| balancer.load_balancer_arn() == Some(arn))
    }

    fn listener(&self, arn: &str) -> Option<&Listener> {
        self.listeners
            .iter()
            .find(|listener| listener.listener_arn() == Some(arn))
    }

    /// Every rule, default actions included: by listener and priority, the default last.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.listeners
            .iter()
            .flat_map(|listener| self.places_of(listener))
    }

    fn places_of<'a>(&'a self, listener: &'a Listener) -> Vec<Place<'a>> {
        let balancer = self
            .balancer(listener.load_balancer_arn().unwrap_or_default())
            .expect("a listener has a load balancer");
        let mut rules: Vec<&Rule> = self
            .rules
            .iter()
            .filter(|(of, _)| Some(of.as_str()) == listener.listener_arn())
            .map(|(_, rule)| rule)
            .collect();
        rules.sort_by_key(|rule| rule.priority().and_then(|text| text.parse::<u32>().ok()));
        let place = |rule: Option<&'a Rule>, actions| Place {
            balancer,
            listener,
            rule,
            actions,
        };
        let mut places: Vec<Place<'a>> = rules
            .into_iter()
            .map(|rule| place(Some(rule), rule.actions()))
            .collect();
        places.push(place(None, listener.default_actions()));
        places
    }

    /// The rule of that path.
    pub(crate) fn place(&self, path: &str) -> Option<Place<'_>> {
        self.places().find(|place| place.path() == path)
    }

    /// The load balancer that has a rule with this target group.
    pub(crate) fn balancer_of(&self, group: &str) -> Option<&LoadBalancer> {
        let names = |actions: &[Action]| {
            tuples(actions)
                .iter()
                .any(|tuple| tuple.target_group_arn() == Some(group))
        };
        let listener = self
            .listeners
            .iter()
            .find(|listener| names(listener.default_actions()))
            .or_else(|| {
                let (of, _) = self.rules.iter().find(|(_, rule)| names(rule.actions()))?;
                self.listener(of)
            })?;
        self.balancer(listener.load_balancer_arn()?)
    }

    /// A target group as `DescribeTargetGroups` gives it.
    pub(crate) fn describe_group(&self, group: &Group) -> TargetGroup {
        let mut data = group.data.clone();
        data.load_balancer_arns = Some(
            self.balancer_of(group.arn())
                .and_then(LoadBalancer::load_balancer_arn)
                .map(str::to_owned)
                .into_iter()
                .collect(),
        );
        data
    }

    /// How Application Auto Scaling names a target group: `app/name/hash/targetgroup/name/hash`.
    pub(crate) fn resource_label(&self, group: &str) -> String {
        let balancer = self
            .balancer_of(group)
            .and_then(LoadBalancer::load_balancer_arn)
            .unwrap_or_default();
        format!("{}/{}", suffix(balancer), suffix(group))
    }

    /// The weights of a rule, by target group's name.
    pub(crate) fn weights(&self, actions: &[Action]) -> BTreeMap<String, i32> {
        let named = |tuple: &TargetGroupTuple| {
            let arn = tuple.target_group_arn().unwrap_or_default();
            let name = self.group(arn).map_or(arn, Group::name).to_owned();
            (name, tuple.weight().unwrap_or(1))
        };
        tuples(actions).iter().map(named).collect()
    }
}

/// The part of an ARN that is a dimension of metrics: `app/name/hash`, `targetgroup/name/hash`.
pub(crate) fn suffix(arn: &str) -> &str {
    let resource = arn.rsplit(':').next().unwrap_or(arn);
    resource.strip_prefix("loadbalancer/").unwrap_or(resource)
}

fn arn(rest: &str) -> String {
    format!("arn:aws:elasticloadbalancing:{REGION}:{ACCOUNT}:{rest}")
}

fn validation(message: impl Into<String>) -> Refusal {
    Refusal::new("ValidationError", message)
}

fn no_group(arn: &str) -> Refusal {
    Refusal::new(
        "TargetGroupNotFound",
        format!("Target groups '{arn}' not found"),
    )
}

fn no_listener(arn: &str) -> Refusal {
    Refusal::new(
        "ListenerNotFound",
        format!("One or more listeners not found: {arn}"),
    )
}

fn no_balancer(arn: &str) -> Refusal {
    Refusal::new(
        "LoadBalancerNotFound",
        format!("Load balancers '[{arn}]' not found"),
    )
}

fn no_rule(arn: &str) -> Refusal {
    Refusal::new(
        "RuleNotFound",
        format!("One or more rules not found: {arn}"),
    )
}

/// One page, in the words of Elastic Load Balancing.
fn paged<T: Clone>(
    items: &[T],
    size: usize,
    limit: Option<i32>,
    marker: Option<&str>,
) -> Result<(Vec<T>, Option<String>), Refusal> {
    if limit.is_some_and(|limit| !(1..=400).contains(&limit)) {
        return Err(validation("PageSize must be between 1 and 400"));
    }
    page(items, size, limit, marker).ok_or_else(|| validation("Invalid marker"))
}
