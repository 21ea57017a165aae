//! The target groups: copied, looked at, deleted.

use aws_sdk_elasticloadbalancingv2::operation::create_target_group::builders::CreateTargetGroupInputBuilder;
use aws_sdk_elasticloadbalancingv2::types::{
    Tag, TargetGroup, TargetGroupAttribute, TargetHealthStateEnum,
};
use serin::ports::{Removal, Side};
use serin::routing::GroupPair;
use serin::{Deployment, Leftover, PortError};

use super::AlbRouter;
use crate::error::{failed, has_code, is_not_found, refused};
use crate::ownership;

impl AlbRouter {
    /// Ensures the canary's copy of a target group, with every attribute; gives its ARN.
    pub(super) async fn ensure_group(
        &self,
        deployment: &Deployment,
        pair: &GroupPair,
    ) -> Result<String, PortError> {
        const CALL: &str = "Elastic Load Balancing CreateTargetGroup";
        let stable_arn = &pair.stable.target_group_arn;
        let canary_arn = if let Some(arn) = self.find_group(&pair.canary_name).await? {
            self.refuse_a_strangers(deployment, pair, &arn).await?;
            arn
        } else {
            let stable = self.describe_group(stable_arn).await?;
            let tags = self.tags_of(stable_arn).await?;
            let request = copy(&stable, &tags, pair, deployment);
            let answer = request.send_with(&self.load_balancing).await;
            let groups = answer.map_err(failed(CALL))?.target_groups;
            groups
                .unwrap_or_default()
                .pop()
                .and_then(|group| group.target_group_arn)
                .ok_or_else(|| refused(CALL, "the answer has no target group"))?
        };
        self.copy_attributes(stable_arn, &canary_arn).await?;
        Ok(canary_arn)
    }

    /// Gives the canary's target group every attribute that it does not share with stable's yet.
    async fn copy_attributes(&self, stable: &str, canary: &str) -> Result<(), PortError> {
        let has = self.attributes_of(canary).await?;
        let lacks: Vec<_> = self
            .attributes_of(stable)
            .await?
            .into_iter()
            .filter(|attribute| !has.contains(attribute))
            .collect();
        if lacks.is_empty() {
            return Ok(());
        }
        let request = self
            .load_balancing
            .modify_target_group_attributes()
            .target_group_arn(canary)
            .set_attributes(Some(lacks));
        request
            .send()
            .await
            .map_err(failed("Elastic Load Balancing ModifyTargetGroupAttributes"))?;
        Ok(())
    }

    async fn describe_group(&self, arn: &str) -> Result<TargetGroup, PortError> {
        const CALL: &str = "Elastic Load Balancing DescribeTargetGroups";
        let request = self
            .load_balancing
            .describe_target_groups()
            .target_group_arns(arn);
        let answer = request.send().await.map_err(failed(CALL))?;
        answer
            .target_groups
            .unwrap_or_default()
            .pop()
            .ok_or_else(|| refused(CALL, format!("target group {arn} is gone")))
    }

    /// The ARN of the target group of this name; `None` if there is none.
    pub(super) async fn find_group(&self, name: &str) -> Result<Option<String>, PortError> {
        let request = self.load_balancing.describe_target_groups().names(name);
        match request.send().await {
            Err(error) if is_not_found(&error) => Ok(None),
            answer => {
                let answer =
                    answer.map_err(failed("Elastic Load Balancing DescribeTargetGroups"))?;
                let mut groups = answer.target_groups.unwrap_or_default().into_iter();
                Ok(groups.find_map(|group| group.target_group_arn))
            }
        }
    }

    pub(super) async fn group_exists(&self, arn: &str) -> Result<bool, PortError> {
        let request = self
            .load_balancing
            .describe_target_groups()
            .target_group_arns(arn);
        match request.send().await {
            Err(error) if is_not_found(&error) => Ok(false),
            answer => {
                answer.map_err(failed("Elastic Load Balancing DescribeTargetGroups"))?;
                Ok(true)
            }
        }
    }

    pub(super) async fn attributes_of(
        &self,
        arn: &str,
    ) -> Result<Vec<TargetGroupAttribute>, PortError> {
        let request = self
            .load_balancing
            .describe_target_group_attributes()
            .target_group_arn(arn);
        let answer = request.send().await.map_err(failed(
            "Elastic Load Balancing DescribeTargetGroupAttributes",
        ))?;
        Ok(answer.attributes.unwrap_or_default())
    }

    async fn tags_of(&self, arn: &str) -> Result<Vec<Tag>, PortError> {
        let request = self.load_balancing.describe_tags().resource_arns(arn);
        let answer = request
            .send()
            .await
            .map_err(failed("Elastic Load Balancing DescribeTags"))?;
        let descriptions = answer.tag_descriptions.unwrap_or_default().into_iter();
        Ok(descriptions
            .flat_map(|description| description.tags.unwrap_or_default())
            .collect())
    }

    /// A target group that bears the canary's name, but that this deployment did not make, is left alone.
    async fn refuse_a_strangers(
        &self,
        deployment: &Deployment,
        pair: &GroupPair,
        arn: &str,
    ) -> Result<(), PortError> {
        let tags = self.tags_of(arn).await?;
        let tags = tags.iter().map(|tag| (tag.key(), tag.value()));
        if ownership::is_ours(tags, &deployment.execution) {
            return Ok(());
        }
        Err(refused(
            "Elastic Load Balancing DescribeTags",
            format!(
                "target group {} was not created by this deployment (tag {}) and is left alone",
                pair.canary_name,
                ownership::EXECUTION
            ),
        ))
    }

    /// How many healthy targets the group with the fewest has; none without a group.
    pub(super) async fn fewest_healthy(
        &self,
        groups: impl Iterator<Item = &str>,
    ) -> Result<u32, PortError> {
        let mut healthy = Vec::new();
        for arn in groups {
            healthy.push(self.healthy_in(arn).await?);
        }
        Ok(healthy.into_iter().min().unwrap_or(0))
    }

    /// How many targets of the group the load balancer sends requests to.
    async fn healthy_in(&self, arn: &str) -> Result<u32, PortError> {
        let healthy = self
            .target_states(arn)
            .await?
            .iter()
            .filter(|state| **state == TargetHealthStateEnum::Healthy)
            .count();
        Ok(u32::try_from(healthy).unwrap_or(u32::MAX))
    }

    /// The state of every target that is registered in the group; none if there is no such group.
    pub(super) async fn target_states(
        &self,
        arn: &str,
    ) -> Result<Vec<TargetHealthStateEnum>, PortError> {
        let request = self
            .load_balancing
            .describe_target_health()
            .target_group_arn(arn);
        let answer = match request.send().await {
            Err(error) if is_not_found(&error) => return Ok(Vec::new()),
            answer => answer.map_err(failed("Elastic Load Balancing DescribeTargetHealth"))?,
        };
        let descriptions = answer.target_health_descriptions.unwrap_or_default();
        Ok(descriptions
            .into_iter()
            .filter_map(|description| description.target_health?.state)
            .collect())
    }

    /// The ARN of one side's group, if there is one; of the canary's, only the name is known beforehand.
    pub(super) async fn group_of(
        &self,
        pair: &GroupPair,
        side: Side,
    ) -> Result<Option<String>, PortError> {
        match side {
            Side::Canary => self.find_group(&pair.canary_name).await,
            Side::Stable => Ok(Some(pair.stable.target_group_arn.clone())),
        }
    }

    /// What still drains in the groups of one side, in words; `None` when nothing does.
    pub(super) async fn draining(
        &self,
        deployment: &Deployment,
        side: Side,
    ) -> Result<Option<String>, PortError> {
        for pair in &super::record(deployment).groups {
            let Some(arn) = self.group_of(pair, side).await? else {
                continue;
            };
            let states = self.target_states(&arn).await?;
            let draining = states.iter().filter(|state| is_draining(state)).count();
            if draining > 0 {
                return Ok(Some(format!("{draining} targets of {arn} to drain")));
            }
        }
        Ok(None)
    }

    pub(super) async fn delete_canary_group(
        &self,
        deployment: &Deployment,
        pair: &GroupPair,
    ) -> Result<Removal, PortError> {
        match self.find_group(&pair.canary_name).await? {
            None => Ok(Removal::Gone),
            Some(arn) => {
                self.refuse_a_strangers(deployment, pair, &arn).await?;
                self.delete_group(&arn).await
            }
        }
    }

    pub(super) async fn delete_group(&self, arn: &str) -> Result<Removal, PortError> {
        let request = self
            .load_balancing
            .delete_target_group()
            .target_group_arn(arn);
        match request.send().await {
            Ok(_) => Ok(Removal::Gone),
            Err(error) if is_not_found(&error) => Ok(Removal::Gone),
            // The rules' change may not have reached every part of the load balancer yet; or somebody else's rule names it.
            Err(error) if has_code(&error, "ResourceInUse") => Ok(Removal::Going(format!(
                "the load balancer to let go of target group {arn}"
            ))),
            Err(error) => Err(failed("Elastic Load Balancing DeleteTargetGroup")(error)),
        }
    }
}

pub(super) fn is_draining(state: &TargetHealthStateEnum) -> bool {
    matches!(
        state,
        TargetHealthStateEnum::Draining | TargetHealthStateEnum::UnhealthyDraining
    )
}

/// The request that creates a copy of a target group.
///
/// Left out are the members that Elastic Load Balancing writes itself: its ARN, and the load balancers that use it.
fn copy(
    stable: &TargetGroup,
    tags: &[Tag],
    pair: &GroupPair,
    deployment: &Deployment,
) -> CreateTargetGroupInputBuilder {
    let copied = tags
        .iter()
        .filter(|tag| ownership::is_copied(tag.key().unwrap_or_default()))
        .cloned();
    let ours = ownership::tags(deployment)
        .into_iter()
        .map(|(key, value)| Tag::builder().key(key).value(value).build());
    CreateTargetGroupInputBuilder::default()
        .name(&pair.canary_name)
        .set_protocol(stable.protocol.clone())
        .set_protocol_version(stable.protocol_version.clone())
        .set_port(stable.port)
        .set_vpc_id(stable.vpc_id.clone())
        .set_target_type(stable.target_type.clone())
        .set_ip_address_type(stable.ip_address_type.clone())
        .set_target_control_port(stable.target_control_port)
        .set_health_check_protocol(stable.health_check_protocol.clone())
        .set_health_check_port(stable.health_check_port.clone())
        .set_health_check_enabled(stable.health_check_enabled)
        .set_health_check_path(stable.health_check_path.clone())
        .set_health_check_interval_seconds(stable.health_check_interval_seconds)
        .set_health_check_timeout_seconds(stable.health_check_timeout_seconds)
        .set_healthy_threshold_count(stable.healthy_threshold_count)
        .set_unhealthy_threshold_count(stable.unhealthy_threshold_count)
        .set_matcher(stable.matcher.clone())
        .set_tags(Some(copied.chain(ours).collect()))
}

/// A target group, in the words of one who has to delete it by hand.
pub(super) fn leftover(arn: &str) -> Leftover {
    let name = arn.rsplit('/').nth(1).unwrap_or(arn);
    Leftover {
        arn: arn.to_owned(),
        what: format!(
            "target group {name} still exists; it gets only what a rule still forwards to it"
        ),
        command: format!("aws elbv2 delete-target-group --target-group-arn {arn}"),
    }
}

/// The same for the canary's, whose ARN only Elastic Load Balancing knows.
pub(super) fn leftover_by_name(deployment: &Deployment, pair: &GroupPair) -> Leftover {
    let name = &pair.canary_name;
    let path = format!("targetgroup/{name}/*");
    let execution = &deployment.execution;
    Leftover {
        command: format!(
            r#"aws elbv2 delete-target-group --target-group-arn "$(aws elbv2 describe-target-groups --names {name} --query 'TargetGroups[0].TargetGroupArn' --output text)""#
        ),
        ..leftover(&execution.arn_beside("elasticloadbalancing", None, &path))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aws_sdk_elasticloadbalancingv2::operation::create_target_group::CreateTargetGroupInput;
    use aws_sdk_elasticloadbalancingv2::types::{Matcher, ProtocolEnum, TargetTypeEnum};
    use serin::progress::TargetGroupUse;

    use super::*;
    use crate::fixture::deployment;

    fn pair() -> GroupPair {
        GroupPair {
            stable: TargetGroupUse {
                target_group_arn: "stable".into(),
                container: "app".into(),
                port: 8080,
            },
            canary_name: "shop-canary-1a2b3c4d".into(),
            baseline_name: "shop-baseline-1a2b3c4d".into(),
            load_balancer_arn: "balancer".into(),
            deregistration_delay_seconds: 300,
            sticky: false,
            grpc: false,
        }
    }

    /// The members of a value of the SDK, read from its debug text, with their values.
    fn members(debug: &str) -> BTreeSet<String> {
        let (_, inside) = debug.split_once('{').unwrap();
        let inside = inside.trim_end().strip_suffix('}').unwrap();
        let mut depth = 0;
        let parts = inside.split(|character: char| {
            match character {
                '{' | '(' | '[' => depth += 1,
                '}' | ')' | ']' => depth -= 1,
                _ => {}
            }
            character == ',' && depth == 0
        });
        parts.map(|part| part.trim().to_owned()).collect()
    }

    fn names(members: &BTreeSet<String>) -> BTreeSet<&str> {
        members
            .iter()
            .filter_map(|member| member.split(':').next())
            .collect()
    }

    #[test]
    fn a_copy_has_every_member_that_a_target_group_can_have() {
        let stable = TargetGroup::builder()
            .target_group_arn("stable")
            .target_group_name("shop")
            .protocol(ProtocolEnum::Http)
            .protocol_version("GRPC")
            .port(80)
            .vpc_id("vpc-1")
            .target_type(TargetTypeEnum::Ip)
            .ip_address_type("ipv4".into())
            .target_control_port(3000)
            .health_check_protocol(ProtocolEnum::Http)
            .health_check_port("traffic-port")
            .health_check_enabled(true)
            .health_check_path("/health")
            .health_check_interval_seconds(7)
            .health_check_timeout_seconds(3)
            .healthy_threshold_count(2)
            .unhealthy_threshold_count(4)
            .matcher(Matcher::builder().grpc_code("0-99").build())
            .load_balancer_arns("balancer")
            .build();
        let tag = |key: &str| Tag::builder().key(key).value("x").build();
        let tags = [
            tag("team"),
            tag("aws:cloudformation:stack-name"),
            tag(ownership::EXECUTION),
        ];
        let copy: CreateTargetGroupInput = copy(&stable, &tags, &pair(), &deployment())
            .build()
            .unwrap();

        let (of_stable, of_copy) = (
            members(&format!("{stable:?}")),
            members(&format!("{copy:?}")),
        );
        let written_by_aws = [
            "target_group_arn",
            "target_group_name",
            "load_balancer_arns",
        ];
        let given = ["name", "tags"];
        for member in &of_stable {
            let name = member.split(':').next().unwrap();
            assert!(
                written_by_aws.contains(&name) || of_copy.contains(member),
                "{member} is not copied"
            );
        }
        for name in names(&of_copy) {
            assert!(
                given.contains(&name) || names(&of_stable).contains(name),
                "{name} comes from nowhere"
            );
        }
        assert_eq!(copy.name(), Some("shop-canary-1a2b3c4d"));
        let keys: Vec<_> = copy.tags().iter().filter_map(Tag::key).collect();
        assert_eq!(keys, ["team", ownership::EXECUTION, ownership::SERVICE]);
        let last = copy
            .tags()
            .iter()
            .find(|tag| tag.key() == Some(ownership::EXECUTION));
        assert_eq!(
            last.and_then(Tag::value),
            Some(deployment().execution.as_str())
        );
    }
}
