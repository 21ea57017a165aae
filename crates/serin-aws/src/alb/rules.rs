//! The rules: read, written, compared with what was last written.
//!
//! Elastic Load Balancing has no conditional update and no versions. So every write is made of what was read just before, all
//! but the weights as it was, and what was read must be what Serin last wrote. A given list of actions replaces the whole
//! list, so the whole list is given; what is not given (conditions, priority, transforms, certificates) stays.

use std::fmt::Write;

use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, ForwardActionConfig, TargetGroupStickinessConfig, TargetGroupTuple,
};
use serin::ports::{Settled, ShiftError, Side};
use serin::request::FinishMode;
use serin::routing::{AlbRecord, Group, GroupWeight, RuleRecord};
use serin::{Deployment, Leftover, PortError, Split, Weight};
use sha2::{Digest, Sha256};

use super::{AlbRouter, CopyArns, arn, of};
use crate::error::{failed, is_not_found, refused};

/// A rule, or a listener's default action, as it is now.
#[derive(Debug, Clone)]
pub(super) struct Live {
    actions: Vec<Action>,
    /// The SDK's debug text of all that is beside the actions.
    beside: String,
    pub(super) groups: Vec<GroupWeight>,
    copies: CopyArns,
}

impl Live {
    /// A rule of these actions; `None` when it does not forward to target groups.
    pub(super) fn new(record: &AlbRecord, actions: &[Action], beside: String) -> Option<Self> {
        let mut copies = CopyArns::new();
        let mut groups = Vec::new();
        for (arn, weight) in forwards_to(actions)? {
            let group = record.group(&arn);
            if let Group::Canary(_) | Group::Baseline(_) = group {
                copies.insert(group.clone(), arn);
            }
            groups.push(GroupWeight { group, weight });
        }
        Some(Self {
            actions: actions.to_vec(),
            beside,
            groups,
            copies,
        })
    }

    /// A digest of everything in the rule but its target groups.
    ///
    /// Of the SDK's debug text: it has every member that the SDK knows, without a list of ours that could miss one. Another
    /// version of the SDK may print another text; then a deployment that was planned before is rolled back as if somebody
    /// had changed the rule, which is safe.
    pub(super) fn fingerprint(&self) -> String {
        let mut actions = self.actions.clone();
        for action in &mut actions {
            // The load balancer answers these two in more than one form; what they say is in the target groups and below.
            if action.r#type == Some(ActionTypeEnum::Forward) {
                action.target_group_arn = None;
                action.forward_config = None;
            }
            keep_secret(action);
        }
        let sticky = sticky_seconds(&self.actions);
        let text = format!("{actions:?}{sticky:?}{}", self.beside);
        let mut digest = String::with_capacity(64);
        for byte in Sha256::digest(text.as_bytes()) {
            write!(digest, "{byte:02x}").expect("a String takes everything");
        }
        digest
    }

    pub(super) fn sticky_seconds(&self) -> Option<u32> {
        sticky_seconds(&self.actions)
    }

    fn is(&self, rule: &RuleRecord, groups: &[GroupWeight]) -> bool {
        self.is_otherwise(rule) && same(&self.groups, groups)
    }

    /// Whether all but the target groups is as it was.
    fn is_otherwise(&self, rule: &RuleRecord) -> bool {
        self.fingerprint() == rule.fingerprint
    }

    fn has(&self, group: &Group) -> bool {
        self.groups.iter().any(|entry| entry.group == *group)
    }
}

impl AlbRouter {
    /// A rule; `None` if there is none any more, or it does not forward to target groups any more.
    async fn describe_rule(
        &self,
        record: &AlbRecord,
        rule: &RuleRecord,
    ) -> Result<Option<Live>, PortError> {
        let Some(arn) = &rule.rule_arn else {
            return self
                .describe_default_action(record, &rule.listener_arn)
                .await;
        };
        let request = self.load_balancing.describe_rules().rule_arns(arn);
        let answer = match request.send().await {
            Err(error) if is_not_found(&error) => return Ok(None),
            answer => answer.map_err(failed("Elastic Load Balancing DescribeRules"))?,
        };
        let found = answer.rules.unwrap_or_default().pop();
        Ok(found.and_then(|rule| Live::new(record, rule.actions(), beside(&rule))))
    }

    /// The same for the default action of the listener of this ARN.
    async fn describe_default_action(
        &self,
        record: &AlbRecord,
        arn: &str,
    ) -> Result<Option<Live>, PortError> {
        let request = self.load_balancing.describe_listeners().listener_arns(arn);
        let answer = match request.send().await {
            Err(error) if is_not_found(&error) => return Ok(None),
            answer => answer.map_err(failed("Elastic Load Balancing DescribeListeners"))?,
        };
        let found = answer.listeners.unwrap_or_default().pop();
        Ok(found.and_then(|listener| Live::new(record, listener.default_actions(), String::new())))
    }

    /// Writes these target groups into the rule, all else as it was read.
    async fn modify_rule(
        &self,
        record: &AlbRecord,
        rule: &RuleRecord,
        live: &Live,
        copies: &CopyArns,
        groups: &[GroupWeight],
    ) -> Result<(), PortError> {
        let actions = with_groups(record, copies, &live.actions, groups).ok_or_else(|| {
            refused(
                "Elastic Load Balancing ModifyRule",
                format!(
                    "{} is to name a target group that does not exist",
                    rule.name
                ),
            )
        })?;
        if let Some(arn) = &rule.rule_arn {
            let request = self.load_balancing.modify_rule().rule_arn(arn);
            request
                .set_actions(Some(actions))
                .send()
                .await
                .map_err(failed("Elastic Load Balancing ModifyRule"))?;
        } else {
            // A default rule cannot be modified as a rule.
            let request = self
                .load_balancing
                .modify_listener()
                .listener_arn(&rule.listener_arn);
            request
                .set_default_actions(Some(actions))
                .send()
                .await
                .map_err(failed("Elastic Load Balancing ModifyListener"))?;
        }
        Ok(())
    }

    /// Puts the canary's target groups into every rule, without weight: only in a rule are their targets health-checked, and
    /// only then does ECS accept them.
    pub(super) async fn attach(
        &self,
        record: &AlbRecord,
        canaries: &CopyArns,
    ) -> Result<(), ShiftError> {
        let attached = |rule: &RuleRecord, live: &Live| {
            let mut groups = live.groups.clone();
            let lacking = canaries.keys().filter(|group| {
                let of_stable =
                    |entry: &GroupWeight| Some(&entry.group) == stable_of(group).as_ref();
                rule.groups.iter().any(of_stable) && !live.has(group)
            });
            groups.extend(lacking.map(|group| GroupWeight {
                group: group.clone(),
                weight: 0,
            }));
            let was = same(&without_idle_copies(&live.groups), &rule.original());
            (was && live.is_otherwise(rule)).then_some(groups)
        };
        let moved = |rule: &RuleRecord, live: Option<&Live>| match live {
            Some(live) => attached(rule, live).ok_or_else(|| rule.original()),
            None => Err(rule.original()),
        };
        self.move_rules(record, canaries, moved).await
    }

    /// Moves every rule from one split to another; see [`serin::TrafficRouter::shift`].
    pub(super) async fn shift_rules(
        &self,
        record: &AlbRecord,
        from: Split,
        to: Split,
    ) -> Result<(), ShiftError> {
        let mut moves = Vec::new();
        for rule in &record.rules {
            moves.push((rule, groups_at(rule, from)?, groups_at(rule, to)?));
        }
        let moved = |rule: &RuleRecord, live: Option<&Live>| {
            let mut moves = moves.iter();
            let (_, before, after) = moves
                .find(|(other, ..)| *other == rule)
                .expect("every rule of the record is there");
            let own = live.is_some_and(|live| live.is(rule, before) || live.is(rule, after));
            if own {
                Ok(after.clone())
            } else {
                Err(before.clone())
            }
        };
        self.move_rules(record, &CopyArns::new(), moved).await
    }

    /// Gives every rule what `moved` says of it as it is, or fails with what it should have been.
    ///
    /// All rules are read before the first is written: if somebody else changed one of them, none is written.
    async fn move_rules(
        &self,
        record: &AlbRecord,
        copies: &CopyArns,
        moved: impl Fn(&RuleRecord, Option<&Live>) -> Result<Vec<GroupWeight>, Vec<GroupWeight>>,
    ) -> Result<(), ShiftError> {
        let mut to_write = Vec::new();
        for rule in &record.rules {
            let live = self.describe_rule(record, rule).await?;
            let after = moved(rule, live.as_ref()).map_err(|before| {
                ShiftError::ChangedByOthers(changed(rule, &before, live.as_ref()))
            })?;
            to_write.extend(
                live.filter(|live| !same(&live.groups, &after))
                    .map(|live| (rule, live, after)),
            );
        }
        for (rule, live, after) in to_write {
            let mut known = live.copies.clone();
            known.extend(copies.clone());
            self.modify_rule(record, rule, &live, &known, &after)
                .await?;
            match self.describe_rule(record, rule).await? {
                Some(live) if live.is(rule, &after) => {}
                live => {
                    return Err(ShiftError::NotReadBack(not_read_back(
                        rule,
                        &after,
                        live.as_ref(),
                    )));
                }
            }
        }
        Ok(())
    }

    /// Proves that every rule still is at `weight`, and that none has come that the deployment does not know, if stable is to
    /// go.
    pub(super) async fn verify_rules(
        &self,
        deployment: &Deployment,
        record: &AlbRecord,
        weight: Weight,
    ) -> Result<(), ShiftError> {
        if deployment.finish.mode == FinishMode::Replace
            && let Some(sentence) = self.new_rule(record).await?
        {
            return Err(ShiftError::ChangedByOthers(sentence));
        }
        for rule in &record.rules {
            let expected = groups_at(rule, deployment.split_at(weight))?;
            match self.describe_rule(record, rule).await? {
                Some(live) if live.is(rule, &expected) => {}
                live => {
                    return Err(ShiftError::ChangedByOthers(changed(
                        rule,
                        &expected,
                        live.as_ref(),
                    )));
                }
            }
        }
        Ok(())
    }

    /// What to tell of a rule that forwards to stable since the deployment was planned.
    async fn new_rule(&self, record: &AlbRecord) -> Result<Option<String>, PortError> {
        let known = |rule: &RuleRecord| {
            let mut rules = record.rules.iter();
            rules.any(|known| {
                known.rule_arn == rule.rule_arn && known.listener_arn == rule.listener_arn
            })
        };
        let rules = self.rules_to(record).await?;
        let new = rules.into_iter().find(|rule| !known(rule));
        Ok(new.map(|rule| {
            format!(
                "{} forwards to stable since the deployment was planned, and stable is to go",
                rule.name
            )
        }))
    }

    /// Gives all the traffic of both sides to one, in every rule.
    ///
    /// A rule that cannot be written keeps none of the others from it: each one less is traffic that is where it belongs.
    pub(super) async fn settle_rules(
        &self,
        deployment: &Deployment,
        record: &AlbRecord,
        on: Side,
    ) -> Result<Settled, PortError> {
        // What comes by such a rule would find nothing when stable has gone.
        if on == Side::Canary
            && let Some(sentence) = self.new_rule(record).await?
        {
            return Err(refused("Elastic Load Balancing DescribeRules", sentence));
        }
        let mut settled = Settled::default();
        let mut first_error = None;
        for rule in &record.rules {
            match self.settle_rule(deployment, record, rule, on).await {
                Ok((wrote, sentence)) => {
                    settled.wrote |= wrote;
                    settled.edited.extend(sentence);
                }
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(settled), Err)
    }

    /// Whether the rule had to be written, and what to tell about it.
    async fn settle_rule(
        &self,
        deployment: &Deployment,
        record: &AlbRecord,
        rule: &RuleRecord,
        on: Side,
    ) -> Result<(bool, Option<String>), PortError> {
        let Some(live) = self.describe_rule(record, rule).await? else {
            let sentence = format!("{}; that stays", gone(rule));
            return Ok((false, Some(sentence)));
        };
        let Wanted { groups, sentence } = settle(deployment, rule, &live, on);
        if same(&groups, &live.groups) {
            return Ok((false, sentence));
        }
        self.write_and_read(record, rule, &live, &groups).await?;
        Ok((true, sentence))
    }

    /// Takes a side that has no traffic any more, and whose targets have drained, out of every rule.
    pub(super) async fn take_out(&self, record: &AlbRecord, side: Side) -> Result<(), PortError> {
        for rule in &record.rules {
            let Some(live) = self.describe_rule(record, rule).await? else {
                continue;
            };
            let is_gone = |entry: &GroupWeight| {
                (0..record.groups.len()).any(|index| entry.group == of(side)(index))
            };
            let (gone, kept): (Vec<_>, Vec<_>) = live
                .groups
                .iter()
                .cloned()
                .partition(|entry| is_gone(entry));
            if gone.is_empty() {
                continue;
            }
            if gone.iter().any(|entry| entry.weight > 0) {
                let sentence = format!("{} got traffic for the {side} again", rule.name);
                return Err(PortError::Unavailable {
                    call: "Elastic Load Balancing DescribeRules".to_owned(),
                    message: sentence,
                });
            }
            self.write_and_read(record, rule, &live, &kept).await?;
        }
        Ok(())
    }

    async fn write_and_read(
        &self,
        record: &AlbRecord,
        rule: &RuleRecord,
        live: &Live,
        groups: &[GroupWeight],
    ) -> Result<(), PortError> {
        let mut copies = live.copies.clone();
        for entry in groups {
            // A rule from which somebody took the canary out does not say what its ARN is.
            if let Group::Canary(index) = entry.group
                && !copies.contains_key(&entry.group)
                && let Some(arn) = self.find_group(&record.groups[index].canary_name).await?
            {
                copies.insert(entry.group.clone(), arn);
            }
        }
        self.modify_rule(record, rule, live, &copies, groups)
            .await?;
        let read = self.describe_rule(record, rule).await?;
        if read.as_ref().is_some_and(|read| same(&read.groups, groups)) {
            return Ok(());
        }
        // Worth trying again: the read may have come too early.
        Err(PortError::Unavailable {
            call: "Elastic Load Balancing DescribeRules".to_owned(),
            message: not_read_back(rule, groups, read.as_ref()),
        })
    }

    /// Whether the rule still names a side. What others have changed is not a trace of the deployment.
    pub(super) async fn rule_names(
        &self,
        record: &AlbRecord,
        rule: &RuleRecord,
        side: Side,
    ) -> Result<bool, PortError> {
        let live = self.describe_rule(record, rule).await?;
        let is_of = |group: &Group| match side {
            Side::Stable => matches!(group, Group::Stable(_)),
            Side::Canary => matches!(group, Group::Canary(_)),
        };
        Ok(live.is_some_and(|live| live.groups.iter().any(|entry| is_of(&entry.group))))
    }
}

/// What a rule is to have once one side has all the traffic, and what to tell about it.
struct Wanted {
    groups: Vec<GroupWeight>,
    sentence: Option<String>,
}

fn settle(deployment: &Deployment, rule: &RuleRecord, live: &Live, on: Side) -> Wanted {
    let (keep, settled) = match on {
        Side::Stable => (Side::Stable, rule.settled_on_stable()),
        Side::Canary => (Side::Canary, rule.settled_on_canary()),
    };
    let loser = |group: &Group| loses(group, keep);
    let mut own = deployment
        .splits()
        .filter_map(|split| rule.groups_at(split))
        .chain([rule.original(), rule.replaced(), rule.settled_on_canary()]);
    let lively = without_idle_copies(&live.groups);
    if own.any(|groups| same(&lively, &without_idle_copies(&groups))) {
        let baselines = live
            .groups
            .iter()
            .filter(|entry| matches!(entry.group, Group::Baseline(_)))
            .filter(|_| rule.sticky_seconds.is_none())
            .map(|entry| GroupWeight {
                weight: 0,
                ..entry.clone()
            });
        // What is no longer there has drained, or never was there.
        let groups = settled
            .into_iter()
            .filter(|entry| !loser(&entry.group) || live.has(&entry.group))
            .chain(baselines)
            .collect();
        let sentence = (!live.is_otherwise(rule)).then(|| {
            format!(
                "somebody else changed the conditions, the other actions or the stickiness of {}; that stays",
                rule.name
            )
        });
        return Wanted { groups, sentence };
    }
    let stays = rule.sticky_seconds.is_none() && live.sticky_seconds().is_none();
    let groups = fold(&live.groups, keep, stays);
    let what = if same(&groups, &live.groups) {
        "that stays".to_owned()
    } else {
        let goes = match keep {
            Side::Stable => Side::Canary,
            Side::Canary => Side::Stable,
        };
        format!("the share of the {goes} goes to the {keep}, and the rest stays")
    };
    let sentence = format!(
        "somebody else changed {}, which has {}; {what}",
        rule.name,
        text(&live.groups)
    );
    Wanted {
        groups,
        sentence: Some(sentence),
    }
}

/// Without the copies that have no weight: whether they are in the rule says nothing of who wrote it.
fn without_idle_copies(groups: &[GroupWeight]) -> Vec<GroupWeight> {
    let is_idle = |entry: &GroupWeight| {
        entry.weight == 0 && matches!(entry.group, Group::Canary(_) | Group::Baseline(_))
    };
    let mut groups = groups.to_vec();
    groups.retain(|entry| !is_idle(entry));
    groups
}

/// Stable's group of the pair to which a copy belongs.
const fn stable_of(group: &Group) -> Option<Group> {
    match group {
        Group::Stable(index) | Group::Canary(index) | Group::Baseline(index) => {
            Some(Group::Stable(*index))
        }
        Group::Other(_) => None,
    }
}

/// Whether a group has nothing any more once `keep` has all the traffic.
const fn loses(group: &Group, keep: Side) -> bool {
    match group {
        Group::Stable(_) => matches!(keep, Side::Canary),
        Group::Canary(_) => matches!(keep, Side::Stable),
        Group::Baseline(_) => true,
        Group::Other(_) => false,
    }
}

/// The target groups with the share of all that lose it added to that of `keep`, all others as they are. What has lost its
/// share stays to drain if it `stays`.
fn fold(groups: &[GroupWeight], keep: Side, stays: bool) -> Vec<GroupWeight> {
    let mut folded = groups.to_vec();
    for entry in groups {
        let (Group::Stable(index) | Group::Canary(index) | Group::Baseline(index)) = entry.group
        else {
            continue;
        };
        if !loses(&entry.group, keep) {
            continue;
        }
        let kept = of(keep)(index);
        match folded.iter_mut().find(|other| other.group == kept) {
            Some(other) => other.weight += entry.weight,
            // Whoever changed the rule took out the side that stays.
            None => folded.push(GroupWeight {
                group: kept,
                weight: entry.weight,
            }),
        }
        if let Some(dropped) = folded.iter_mut().find(|other| other.group == entry.group) {
            dropped.weight = 0;
        }
    }
    if !stays {
        folded.retain(|entry| !loses(&entry.group, keep));
    }
    within_range(folded)
}

/// The same shares with weights that a rule may have.
fn within_range(mut groups: Vec<GroupWeight>) -> Vec<GroupWeight> {
    const LARGEST: u32 = 999;
    let largest = groups.iter().map(|entry| entry.weight).max().unwrap_or(0);
    if largest > LARGEST {
        for entry in groups.iter_mut().filter(|entry| entry.weight > 0) {
            entry.weight = (entry.weight * LARGEST / largest).max(1);
        }
    }
    groups
}

fn groups_at(rule: &RuleRecord, split: Split) -> Result<Vec<GroupWeight>, PortError> {
    rule.groups_at(split).ok_or_else(|| {
        refused(
            "Elastic Load Balancing ModifyRule",
            format!("{} cannot express {} percent", rule.name, split.canary),
        )
    })
}

fn changed(rule: &RuleRecord, written: &[GroupWeight], live: Option<&Live>) -> String {
    let written = text(written);
    let Some(live) = live else {
        return format!("somebody else removed {}; it last had {written}", rule.name);
    };
    let more = if live.is_otherwise(rule) {
        "nothing but the weights differs"
    } else {
        "its conditions, its other actions or its stickiness differ too"
    };
    format!(
        "somebody else changed {}: it last had {written}, and now it has {}; {more}",
        rule.name,
        text(&live.groups)
    )
}

fn gone(rule: &RuleRecord) -> String {
    format!(
        "somebody else removed {}, or lets it do something else than forward",
        rule.name
    )
}

fn not_read_back(rule: &RuleRecord, written: &[GroupWeight], live: Option<&Live>) -> String {
    let read = live.map_or_else(|| "nothing".to_owned(), |live| text(&live.groups));
    format!(
        "{} was given {} and then showed {read}",
        rule.name,
        text(written)
    )
}

/// Target groups as sentences name them: `stable 950, canary 50, other shop-api 10`.
fn text(groups: &[GroupWeight]) -> String {
    let groups: Vec<_> = groups
        .iter()
        .map(|entry| {
            let weight = entry.weight;
            match &entry.group {
                Group::Stable(0) => format!("stable {weight}"),
                Group::Canary(0) => format!("canary {weight}"),
                Group::Baseline(0) => format!("baseline {weight}"),
                Group::Stable(index) => format!("stable's group {} {weight}", index + 1),
                Group::Canary(index) => format!("the canary's group {} {weight}", index + 1),
                Group::Baseline(index) => format!("the baseline's group {} {weight}", index + 1),
                Group::Other(arn) => {
                    let name = arn.rsplit('/').nth(1).unwrap_or(arn);
                    format!("{name} {weight}")
                }
            }
        })
        .collect();
    groups.join(", ")
}

/// A rule that may still name a side, in the words of one who has to mend it by hand: for the canary with the rule's original
/// target groups.
pub(super) fn leftover(
    deployment: &Deployment,
    record: &AlbRecord,
    rule: &RuleRecord,
    side: Side,
) -> Leftover {
    let command = match side {
        Side::Canary => original_groups(record, rule),
        Side::Stable => deployment.roll_back_command(),
    };
    Leftover {
        arn: rule.rule_arn.as_ref().unwrap_or(&rule.listener_arn).clone(),
        what: format!("{} may still send traffic to the {side} side", rule.name),
        command,
    }
}

/// The command that gives a rule its original target groups.
fn original_groups(record: &AlbRecord, rule: &RuleRecord) -> String {
    let tuples: Vec<_> = rule
        .groups
        .iter()
        .filter_map(|entry| {
            let arn = arn(record, &CopyArns::new(), &entry.group)?.to_owned();
            Some(format!(
                r#"{{"TargetGroupArn":"{arn}","Weight":{}}}"#,
                entry.weight
            ))
        })
        .collect();
    // The actions are read where the command runs, so that they keep everything but the target groups. A secret is not shown,
    // so the load balancer must be told to go on using the one that it has.
    let edit = format!(
        r#"map(if .Type == "forward" then del(.TargetGroupArn) | .ForwardConfig.TargetGroups = [{}] elif .AuthenticateOidcConfig then .AuthenticateOidcConfig.UseExistingClientSecret = true else . end)"#,
        tuples.join(",")
    );
    if let Some(arn) = &rule.rule_arn {
        format!(
            r#"aws elbv2 modify-rule --rule-arn {arn} --actions "$(aws elbv2 describe-rules --rule-arns {arn} --query 'Rules[0].Actions' --output json | jq '{edit}')""#
        )
    } else {
        let arn = &rule.listener_arn;
        format!(
            r#"aws elbv2 modify-listener --listener-arn {arn} --default-actions "$(aws elbv2 describe-listeners --listener-arns {arn} --query 'Listeners[0].DefaultActions' --output json | jq '{edit}')""#
        )
    }
}

/// Whether the same target groups have the same weights; their order means nothing to the load balancer.
fn same(one: &[GroupWeight], other: &[GroupWeight]) -> bool {
    let sorted = |groups: &[GroupWeight]| {
        let mut groups = groups.to_vec();
        groups.sort();
        groups
    };
    sorted(one) == sorted(other)
}

/// All of a rule that is beside its actions and its own name.
pub(super) fn beside(rule: &aws_sdk_elasticloadbalancingv2::types::Rule) -> String {
    format!(
        "{:?}{:?}{:?}",
        rule.priority, rule.conditions, rule.transforms
    )
}

/// The target groups to which these actions forward, with their weights; `None` if they do something else.
pub(super) fn forwards_to(actions: &[Action]) -> Option<Vec<(String, u32)>> {
    let forward = forward(actions)?;
    let tuples = forward
        .forward_config()
        .map(ForwardActionConfig::target_groups)
        .unwrap_or_default();
    if tuples.is_empty() {
        return Some(vec![(forward.target_group_arn.clone()?, 1)]);
    }
    tuples
        .iter()
        .map(|tuple| {
            // Without a weight a target group has 1 (Elastic Load Balancing API, `TargetGroupTuple`).
            let weight = tuple.weight.unwrap_or(1);
            Some((
                tuple.target_group_arn.clone()?,
                u32::try_from(weight).unwrap_or(0),
            ))
        })
        .collect()
}

fn forward(actions: &[Action]) -> Option<&Action> {
    actions
        .iter()
        .find(|action| action.r#type == Some(ActionTypeEnum::Forward))
}

fn sticky_seconds(actions: &[Action]) -> Option<u32> {
    let sticky = forward(actions)?
        .forward_config()?
        .target_group_stickiness_config()
        .filter(|sticky| sticky.enabled == Some(true))?;
    Some(
        sticky
            .duration_seconds
            .and_then(|seconds| u32::try_from(seconds).ok())
            .unwrap_or(0),
    )
}

/// The load balancer never shows a client's secret, and must be told to keep the one that it has.
fn keep_secret(action: &mut Action) {
    if let Some(oidc) = &mut action.authenticate_oidc_config {
        oidc.client_secret = None;
        oidc.use_existing_client_secret = Some(true);
    }
}

/// The actions with other target groups, and all else as it is; `None` when the ARN of one of them is not known.
fn with_groups(
    record: &AlbRecord,
    copies: &CopyArns,
    actions: &[Action],
    groups: &[GroupWeight],
) -> Option<Vec<Action>> {
    let tuples = groups
        .iter()
        .map(|entry| {
            let weight = i32::try_from(entry.weight).expect("a weight is at most 999");
            Some(
                TargetGroupTuple::builder()
                    .target_group_arn(arn(record, copies, &entry.group)?)
                    .weight(weight)
                    .build(),
            )
        })
        .collect::<Option<Vec<_>>>()?;
    let mut actions = actions.to_vec();
    for action in &mut actions {
        keep_secret(action);
        if action.r#type == Some(ActionTypeEnum::Forward) {
            let sticky = action
                .forward_config
                .take()
                .and_then(|config| config.target_group_stickiness_config)
                .unwrap_or_else(|| {
                    TargetGroupStickinessConfig::builder()
                        .enabled(false)
                        .build()
                });
            // Both are allowed only for a single target group, which the load balancer shows in both.
            action.target_group_arn = match tuples.as_slice() {
                [only] => only.target_group_arn.clone(),
                _ => None,
            };
            action.forward_config = Some(
                ForwardActionConfig::builder()
                    .set_target_groups(Some(tuples.clone()))
                    .target_group_stickiness_config(sticky)
                    .build(),
            );
        }
    }
    Some(actions)
}
