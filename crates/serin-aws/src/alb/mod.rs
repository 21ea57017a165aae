//! The router on Elastic Load Balancing: Application Load Balancers, and Network Load Balancers where their API is the same.
//!
//! The canary gets target groups of its own, copies of stable's, so that none of its tasks can be in stable's pool at any
//! weight. Traffic is shifted in the rules and default actions that forward to stable's, by changing nothing but weights.

mod discover;
mod groups;
mod rules;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serin::name::DeploymentId;
use serin::ports::{
    DiscoveryError, Removal, ServiceDescription, Settled, ShiftError, Side,
    TaskDefinitionDescription, Traces, TrafficRouter,
};
use serin::progress::{Attachment, TargetGroupUse};
use serin::request::RouterWish;
use serin::routing::{AlbRecord, Group};
use serin::{Deployment, Leftover, PortError, RouterRecord, Weight};

/// Where the traffic goes, as rules of a load balancer.
#[derive(Debug, Clone)]
pub struct AlbRouter {
    load_balancing: aws_sdk_elasticloadbalancingv2::Client,
}

impl AlbRouter {
    pub(crate) fn new(load_balancing: aws_sdk_elasticloadbalancingv2::Client) -> Self {
        Self { load_balancing }
    }
}

/// What this router remembers of the deployment. [`crate::Router`] calls it for no other kind.
fn record(deployment: &Deployment) -> &AlbRecord {
    let RouterRecord::Alb(record) = &deployment.router else {
        unreachable!("crate::Router chooses the router by this record");
    };
    record
}

/// The ARNs of the copies' target groups that are known.
type CopyArns = BTreeMap<Group, String>;

/// The ARN of a group of a rule.
fn arn<'a>(record: &'a AlbRecord, copies: &'a CopyArns, group: &'a Group) -> Option<&'a str> {
    match group {
        Group::Stable(index) => Some(&record.groups.get(*index)?.stable.target_group_arn),
        Group::Canary(_) | Group::Baseline(_) => copies.get(group).map(String::as_str),
        Group::Other(arn) => Some(arn),
    }
}

/// The group of the pair with this index on this side.
const fn of(side: Side) -> fn(usize) -> Group {
    match side {
        Side::Stable => Group::Stable,
        Side::Canary => Group::Canary,
    }
}

impl TrafficRouter for AlbRouter {
    async fn discover(
        &self,
        wish: Option<&RouterWish>,
        service: &ServiceDescription,
        _: &TaskDefinitionDescription,
        id: &DeploymentId,
    ) -> Result<RouterRecord, DiscoveryError> {
        self.find(wish, service, id).await.map(RouterRecord::Alb)
    }

    async fn prepare(&self, deployment: &Deployment) -> Result<Attachment, ShiftError> {
        let record = record(deployment);
        let mut canaries = CopyArns::new();
        for (index, pair) in record.groups.iter().enumerate() {
            let arn = self.ensure_group(deployment, pair).await?;
            canaries.insert(Group::Canary(index), arn);
        }
        self.attach(record, &canaries).await?;
        let groups = record.groups.iter().zip(canaries.into_values());
        let target_groups = groups.map(|(pair, target_group_arn)| TargetGroupUse {
            target_group_arn,
            ..pair.stable.clone()
        });
        Ok(Attachment {
            target_groups: target_groups.collect(),
            ..Attachment::default()
        })
    }

    async fn healthy_targets(
        &self,
        _: &Deployment,
        attachment: &Attachment,
    ) -> Result<u32, PortError> {
        let groups = &attachment.target_groups;
        self.fewest_healthy(groups.iter().map(|group| group.target_group_arn.as_str()))
            .await
    }

    async fn healthy_targets_of(
        &self,
        deployment: &Deployment,
        side: Side,
    ) -> Result<u32, PortError> {
        let mut groups = Vec::new();
        for pair in &record(deployment).groups {
            match self.group_of(pair, side).await? {
                Some(arn) => groups.push(arn),
                // A group that is not there has no healthy target.
                None => return Ok(0),
            }
        }
        self.fewest_healthy(groups.iter().map(String::as_str)).await
    }

    async fn shift(
        &self,
        deployment: &Deployment,
        from: Weight,
        to: Weight,
    ) -> Result<Option<Timestamp>, ShiftError> {
        let (from, to) = (deployment.split_at(from), deployment.split_at(to));
        self.shift_rules(record(deployment), from, to).await?;
        // Elastic Load Balancing does not say when a rule was written.
        Ok(None)
    }

    async fn verify(&self, deployment: &Deployment, weight: Weight) -> Result<(), ShiftError> {
        self.verify_rules(deployment, record(deployment), weight)
            .await
    }

    async fn settle(&self, deployment: &Deployment, on: Side) -> Result<Settled, PortError> {
        self.settle_rules(deployment, record(deployment), on).await
    }

    async fn tear_down(&self, deployment: &Deployment, side: Side) -> Result<Removal, PortError> {
        let record = record(deployment);
        // ECS no longer counts tasks as running while their targets still drain, and out of the rules nothing drains.
        if let Some(draining) = self.draining(deployment, side).await? {
            return Ok(Removal::Going(draining));
        }
        // Out of the rules first: a target group that a rule names cannot be deleted.
        self.take_out(record, side).await?;
        let mut removal = Removal::Gone;
        for pair in &record.groups {
            let one = match side {
                Side::Canary => self.delete_canary_group(deployment, pair).await?,
                Side::Stable => self.delete_group(&pair.stable.target_group_arn).await?,
            };
            if one != Removal::Gone {
                removal = one;
            }
        }
        Ok(removal)
    }

    async fn traces(&self, deployment: &Deployment, side: Side) -> Traces {
        let record = record(deployment);
        let mut traces = Traces::default();
        for rule in &record.rules {
            let names = self.rule_names(record, rule, side).await;
            traces.look_for(rules::leftover(deployment, record, rule, side), names);
        }
        for pair in &record.groups {
            match side {
                Side::Canary => {
                    let found = self.find_group(&pair.canary_name).await;
                    let found = found.map(|arn| arn.map(|arn| groups::leftover(&arn)));
                    traces.look(groups::leftover_by_name(deployment, pair), found);
                }
                Side::Stable => {
                    let arn = &pair.stable.target_group_arn;
                    traces.look_for(groups::leftover(arn), self.group_exists(arn).await);
                }
            }
        }
        traces
    }

    fn possible_traces(&self, deployment: &Deployment) -> Vec<Leftover> {
        let record = record(deployment);
        let rule = |rule| rules::leftover(deployment, record, rule, Side::Canary);
        let group = |pair| groups::leftover_by_name(deployment, pair);
        let rules = record.rules.iter().map(rule);
        rules.chain(record.groups.iter().map(group)).collect()
    }
}
