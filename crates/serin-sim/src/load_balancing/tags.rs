//! The tags of load balancers, listeners, rules and target groups: the calls.

use std::collections::BTreeSet;

use aws_sdk_elasticloadbalancingv2::operation::add_tags::{AddTagsInput, AddTagsOutput};
use aws_sdk_elasticloadbalancingv2::operation::describe_tags::{
    DescribeTagsInput, DescribeTagsOutput,
};
use aws_sdk_elasticloadbalancingv2::operation::remove_tags::{RemoveTagsInput, RemoveTagsOutput};
use aws_sdk_elasticloadbalancingv2::types::{Tag, TagDescription};

use super::{LoadBalancing, Pairs, Place, no_balancer, no_group, no_listener, no_rule, validation};
use crate::wire::Refusal;
use crate::world::World;

/// How many resources a call names at most.
const MOST_RESOURCES: usize = 20;
/// How many tags a resource has at most.
const MOST_TAGS: usize = 50;

/// Tags that somebody gives, if they are allowed.
pub(super) fn pairs(tags: &[Tag]) -> Result<Pairs, Refusal> {
    let mut pairs = Pairs::new();
    for tag in tags {
        let key = tag.key().unwrap_or_default();
        let value = tag.value().unwrap_or_default();
        if !(1..=128).contains(&key.len())
            || value.len() > 256
            || key.to_lowercase().starts_with("aws:")
        {
            return Err(validation(format!("The tag '{key}' is not allowed")));
        }
        if pairs.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Refusal::new(
                "DuplicateTagKeys",
                format!("A tag key was specified more than once: {key}"),
            ));
        }
    }
    if pairs.len() > MOST_TAGS {
        return Err(Refusal::new("TooManyTags", "Too many tags"));
    }
    Ok(pairs)
}

impl LoadBalancing {
    fn check_resources(&self, arns: &[String]) -> Result<(), Refusal> {
        if !(1..=MOST_RESOURCES).contains(&arns.len()) {
            return Err(validation(format!(
                "ResourceArns must have 1 to {MOST_RESOURCES} members, not {}",
                arns.len()
            )));
        }
        for arn in arns {
            if arn.contains(":targetgroup/") {
                self.group(arn).ok_or_else(|| no_group(arn))?;
            } else if arn.contains(":loadbalancer/") {
                self.balancer(arn).ok_or_else(|| no_balancer(arn))?;
            } else if arn.contains(":listener/") {
                self.listener(arn).ok_or_else(|| no_listener(arn))?;
            } else {
                let is_it = |place: Place<'_>| place.describe().rule_arn() == Some(arn);
                if !self.places().any(is_it) {
                    return Err(no_rule(arn));
                }
            }
        }
        Ok(())
    }
}

pub(crate) fn describe_tags(
    world: &mut World,
    input: &DescribeTagsInput,
) -> Result<DescribeTagsOutput, Refusal> {
    let all = &world.load_balancing;
    all.check_resources(input.resource_arns())?;
    let described = input.resource_arns().iter().map(|arn| {
        let tags = all.tags.get(arn).into_iter().flatten();
        TagDescription::builder()
            .resource_arn(arn)
            .set_tags(Some(
                tags.map(|(key, value)| Tag::builder().key(key).value(value).build())
                    .collect(),
            ))
            .build()
    });
    Ok(DescribeTagsOutput::builder()
        .set_tag_descriptions(Some(described.collect()))
        .build())
}

pub(crate) fn add_tags(world: &mut World, input: &AddTagsInput) -> Result<AddTagsOutput, Refusal> {
    let all = &mut world.load_balancing;
    all.check_resources(input.resource_arns())?;
    let given = pairs(input.tags())?;
    for arn in input.resource_arns() {
        let had = all.tags.entry(arn.clone()).or_default();
        let keys: BTreeSet<&String> = had.keys().chain(given.keys()).collect();
        if keys.len() > MOST_TAGS {
            return Err(Refusal::new("TooManyTags", "Too many tags"));
        }
        had.extend(given.clone());
    }
    Ok(AddTagsOutput::builder().build())
}

pub(crate) fn remove_tags(
    world: &mut World,
    input: &RemoveTagsInput,
) -> Result<RemoveTagsOutput, Refusal> {
    let all = &mut world.load_balancing;
    all.check_resources(input.resource_arns())?;
    for arn in input.resource_arns() {
        if let Some(had) = all.tags.get_mut(arn) {
            had.retain(|key, _| !input.tag_keys().contains(key));
        }
    }
    Ok(RemoveTagsOutput::builder().build())
}
