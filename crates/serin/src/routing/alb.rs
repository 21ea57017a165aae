//! What the load balancer's router remembers, and the weights that a rule must have.
//!
//! Elastic Load Balancing takes whole weights from 0 to 999 per target group, relative to their sum in the rule.

use serde::{Deserialize, Serialize};

use crate::progress::TargetGroupUse;
use crate::request::Checks;
use crate::weight::{Split, Weight};

/// The largest weight of a target group in a rule (Elastic Load Balancing API, `TargetGroupTuple$Weight`).
const LARGEST_WEIGHT: u32 = 999;
/// The most target groups of a forward action (Elastic Load Balancing quotas, "Target groups per action").
pub const MOST_GROUPS: usize = 5;
/// How often Elastic Load Balancing publishes metrics, in seconds (its user guide, "CloudWatch metrics").
const PERIOD_SECONDS: u32 = 60;
/// How far the share of any target group may be from what is asked for, in percentage points of the whole.
const LARGEST_ERROR: f64 = 0.01;

/// What the load balancer's router remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AlbRecord {
    /// What kind of load balancer it is.
    pub balancer: LoadBalancerKind,
    /// Stable's target groups, each with the one that the canary gets, in the order of the service's load balancers.
    pub groups: Vec<GroupPair>,
    /// Every rule that forwards to one of them, or those that the request names, as they were.
    pub rules: Vec<RuleRecord>,
    /// The rules that forward to one of them and that the request left out, as sentences name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
}

/// The kinds of load balancers that divide traffic by weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "title_case")]
pub enum LoadBalancerKind {
    /// An Application Load Balancer, which divides requests.
    Application,
    /// A Network Load Balancer, which divides new flows.
    Network,
}

/// A target group of stable's and the canary's copy of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupPair {
    /// Stable's target group, and which port of its tasks is registered in it.
    pub stable: TargetGroupUse,
    /// The name of the canary's target group: `<stable>-canary-<deployment>`, at most 32 characters.
    pub canary_name: String,
    /// The same of the baseline, which is there only when the request wants one.
    #[serde(default)]
    pub baseline_name: String,
    /// The load balancer's ARN.
    pub load_balancer_arn: String,
    /// How long the load balancer drains a target that is taken out, in seconds (`deregistration_delay.timeout_seconds`).
    pub deregistration_delay_seconds: u32,
    /// Whether a client keeps to one target of the group (`stickiness.enabled`).
    #[serde(default)]
    pub sticky: bool,
    /// Whether its targets speak gRPC, whose failures are answers with the status 200 to the load balancer.
    #[serde(default)]
    pub grpc: bool,
}

impl GroupPair {
    /// Whether this is the ARN of the canary's target group, which has its name and then a part that AWS chooses.
    pub fn is_canary(&self, arn: &str) -> bool {
        self.is_copy(arn, &self.canary_name)
    }

    /// The same of the baseline's.
    pub fn is_baseline(&self, arn: &str) -> bool {
        self.is_copy(arn, &self.baseline_name)
    }

    fn is_copy(&self, arn: &str, name: &str) -> bool {
        name_of(arn) == Some(name)
            && arn.split(":targetgroup/").next()
                == self.stable.target_group_arn.split(":targetgroup/").next()
    }
}

/// The name in a target group's ARN, `...:targetgroup/<name>/<part that AWS chooses>`.
fn name_of(arn: &str) -> Option<&str> {
    arn.split_once(":targetgroup/")?.1.split('/').next()
}

/// One rule, or one listener's default action, as it was when the deployment was planned, and so as it must be afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleRecord {
    /// The listener's ARN.
    pub listener_arn: String,
    /// The rule's ARN; absent for the listener's default action, which is changed through the listener.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_arn: Option<String>,
    /// The rule as sentences name it: `rule 10 of listener HTTPS:443 of load balancer shop`.
    pub name: String,
    /// A digest of everything in the rule but the weights.
    pub fingerprint: String,
    /// The target groups of its forward action, in order.
    pub groups: Vec<GroupWeight>,
    /// How long a client keeps to the target group that it met first, in seconds; absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky_seconds: Option<u32>,
}

/// A target group of a rule, and its weight there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupWeight {
    /// The target group.
    pub group: Group,
    /// Its weight, 0 to 999, relative to the sum of the rule's weights.
    pub weight: u32,
}

/// A target group, by what it is to the deployment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Group {
    /// Stable's, of the pair with this index.
    Stable(usize),
    /// The canary's, of the pair with this index.
    Canary(usize),
    /// The baseline's, of the pair with this index.
    Baseline(usize),
    /// Somebody else's, by its ARN.
    Other(String),
}

impl AlbRecord {
    /// Stable's target groups.
    pub fn stable_groups(&self) -> Vec<TargetGroupUse> {
        self.groups.iter().map(|pair| pair.stable.clone()).collect()
    }

    /// What the target group with this ARN is to the deployment.
    pub fn group(&self, arn: &str) -> Group {
        for (index, pair) in self.groups.iter().enumerate() {
            if pair.stable.target_group_arn == arn {
                return Group::Stable(index);
            }
            if pair.is_canary(arn) {
                return Group::Canary(index);
            }
            if pair.is_baseline(arn) {
                return Group::Baseline(index);
            }
        }
        Group::Other(arn.to_owned())
    }

    /// The record with the baseline in the canary's place, and the other way round.
    pub(super) fn of_baseline(&self) -> Self {
        let pair = |pair: &GroupPair| GroupPair {
            canary_name: pair.baseline_name.clone(),
            baseline_name: pair.canary_name.clone(),
            ..pair.clone()
        };
        Self {
            groups: self.groups.iter().map(pair).collect(),
            ..self.clone()
        }
    }

    /// Why there can be no baseline beside the canary; `None` if there can.
    pub(super) fn refuses_baseline(&self) -> Option<String> {
        if let Some(sticky) = self.rules.iter().find(|rule| rule.sticky_seconds.is_some()) {
            return Some(format!(
                "in {} a client keeps to the target group that it met first, so a baseline would keep its clients when it loses its weight",
                sticky.name
            ));
        }
        let needed = |rule: &RuleRecord| rule.groups.len() + 2 * rule.stables().count();
        let full = self.rules.iter().find(|rule| needed(rule) > MOST_GROUPS)?;
        Some(format!(
            "{} has {} target groups, and a load balancer allows {MOST_GROUPS}: there is no room for the canary's and the baseline's",
            full.name,
            full.groups.len()
        ))
    }

    pub(super) const fn no_requests_because(&self) -> Option<&'static str> {
        match self.balancer {
            LoadBalancerKind::Application => None,
            LoadBalancerKind::Network => Some(
                "a Network Load Balancer counts no requests and no answers; set errorRatePercent to null and use checks.alarms or checks.queries with a metric of your own",
            ),
        }
    }

    pub(super) fn deregistration_delay_seconds(&self) -> u32 {
        self.groups
            .iter()
            .map(|pair| pair.deregistration_delay_seconds)
            .max()
            .unwrap_or(0)
    }

    /// A sticky rule loses the side's target group at once, and the load balancer drains no target of a group in no rule.
    pub(super) fn shortest_drain_seconds(&self) -> u32 {
        if self.rules.iter().any(|rule| rule.sticky_seconds.is_some()) {
            self.deregistration_delay_seconds()
        } else {
            0
        }
    }

    pub(super) fn notes(&self, checks: &Checks) -> Vec<String> {
        let mut notes = Vec::new();
        if checks.period_seconds < PERIOD_SECONDS {
            notes.push(format!(
                "checks.periodSeconds is {}, but Elastic Load Balancing publishes its metrics every {PERIOD_SECONDS} seconds: what is not there yet is taken for silence, and checks stay inconclusive.",
                checks.period_seconds
            ));
        }
        for rule in &self.rules {
            if let Some(seconds) = rule.sticky_seconds {
                let how_long = match seconds {
                    0 => String::new(),
                    seconds => format!(" for {seconds} seconds"),
                };
                notes.push(format!(
                    "In {} a client keeps to the target group that it met first{how_long}, whatever the weights say: the canary's share of the requests may be far from its weight, and every check tells the observed share. When a side loses its traffic, its target group is taken out of this rule at once, because at weight 0 it would keep its clients.",
                    rule.name
                ));
            }
            if !rule.gets_traffic() {
                notes.push(format!(
                    "In {} the service has weight 0; the canary gets no traffic from there either.",
                    rule.name
                ));
            }
        }
        for pair in &self.groups {
            let name = name_of(&pair.stable.target_group_arn).unwrap_or_default();
            if pair.grpc {
                notes.push(format!(
                    "Target group {name} speaks gRPC, whose failures the load balancer counts as answers with 200: errorRatePercent sees only HTTP's own 5xx; use checks.alarms or checks.queries with a metric of the service's own."
                ));
            }
            if !pair.sticky {
                continue;
            }
            notes.push(format!(
                "Target group {name} is sticky: a client keeps to its task, so the canary's share of the requests follows its weight more slowly; every check tells the observed share."
            ));
        }
        if self.balancer == LoadBalancerKind::Network {
            notes.push("A Network Load Balancer divides new flows; connections that are open stay where they are until they end.".into());
        }
        notes
    }
}

impl RuleRecord {
    /// Whether the rule sends any traffic to stable.
    pub fn gets_traffic(&self) -> bool {
        self.stables().any(|(_, weight)| weight > 0)
    }

    /// The indices of stable's target groups in the rule, and their weights.
    fn stables(&self) -> impl Iterator<Item = (usize, u32)> {
        self.groups.iter().filter_map(|entry| match entry.group {
            Group::Stable(index) => Some((index, entry.weight)),
            Group::Canary(_) | Group::Baseline(_) | Group::Other(_) => None,
        })
    }

    /// The target groups that the rule must have at this split: computed from the snapshot, never from what
    /// the rule has now. At zero these are the original weights and the copies' target groups, which are health-checked
    /// only while a rule names them, without any.
    ///
    /// `None` when no whole weights give every target group its share to within 0.01 percentage points of the whole.
    pub fn groups_at(&self, split: Split) -> Option<Vec<GroupWeight>> {
        let scale = self.scale_for(split)?;
        let mut groups = self.groups.clone();
        let mut copies = Vec::new();
        for entry in &mut groups {
            let parts = scale.parts(entry, split);
            entry.weight = parts.rest;
            if let Group::Stable(index) = entry.group {
                let mut add = |group, weight| copies.push(GroupWeight { group, weight });
                add(Group::Canary(index), parts.canary);
                if split.baseline.is_some() {
                    add(Group::Baseline(index), parts.baseline);
                }
            }
        }
        groups.extend(copies);
        Some(groups)
    }

    /// The target groups as they were, with stable in its place.
    pub fn original(&self) -> Vec<GroupWeight> {
        self.groups.clone()
    }

    /// The target groups as they were, with the canary in stable's place: what `replace` ends with.
    pub fn replaced(&self) -> Vec<GroupWeight> {
        let mut groups = self.groups.clone();
        for entry in &mut groups {
            if let Group::Stable(index) = entry.group {
                entry.group = Group::Canary(index);
            }
        }
        groups
    }

    /// What the rule must have so that the canary gets nothing and drains.
    ///
    /// It stays in the rule without weight, because the load balancer drains no target of a group that is in no rule. Where
    /// clients stick to a target group, weight 0 would leave them there ("stickiness takes precedence over
    /// adjusting weight", <https://repost.aws/questions/QUugYm4uzWSI2af5mnmMjlZQ>), so the group is taken out.
    pub fn settled_on_stable(&self) -> Vec<GroupWeight> {
        self.settled(self.original(), Group::Canary)
    }

    /// The same for stable, when the canary stays.
    pub fn settled_on_canary(&self) -> Vec<GroupWeight> {
        self.settled(self.replaced(), Group::Stable)
    }

    fn settled(&self, mut groups: Vec<GroupWeight>, loser: fn(usize) -> Group) -> Vec<GroupWeight> {
        if self.sticky_seconds.is_none() {
            groups.extend(self.stables().map(|(index, _)| GroupWeight {
                group: loser(index),
                weight: 0,
            }));
        }
        groups
    }

    /// How the original weights are scaled so that whole numbers can express `weight`.
    fn scale_for(&self, split: Split) -> Option<Scale> {
        let Some((_, first)) = self.stables().find(|(_, weight)| *weight > 0) else {
            return Some(Scale::ONE); // nothing to divide
        };
        if split.canary == Weight::ZERO {
            return Some(Scale::ONE);
        }
        let alone = self.groups.iter().filter(|entry| entry.weight > 0).count() == 1;
        if alone && split.canary < Weight::FULL {
            // The pair that a person expects: 5 percent is 950 and 50.
            return Some(Scale {
                to: 1000,
                from: first,
            });
        }
        let scales = (1..=2 * LARGEST_WEIGHT).map(|to| Scale { to, from: first });
        scales
            .filter_map(|scale| Some((scale, self.error_of(scale, split)?)))
            // The smallest error, and of several the largest numbers, which are nearest to a person's thousand.
            .min_by(|(one, one_error), (other, other_error)| {
                one_error.total_cmp(other_error).then(other.to.cmp(&one.to))
            })
            .filter(|(_, error)| *error < LARGEST_ERROR)
            .map(|(scale, _)| scale)
    }

    /// How far the shares at this scale are from what is asked for, in percentage points: of the whole for each target group,
    /// and of what stable and its copies share for each copy. `None` when the weights are not allowed, or one that should get
    /// some traffic would get none.
    fn error_of(&self, scale: Scale, split: Split) -> Option<f64> {
        let parts: Vec<_> = self
            .groups
            .iter()
            .map(|entry| (entry, scale.parts(entry, split)))
            .collect();
        let sum = |numbers: &mut dyn Iterator<Item = u32>| f64::from(numbers.sum::<u32>());
        let before = sum(&mut self.groups.iter().map(|entry| entry.weight));
        let after = sum(&mut parts.iter().map(|(_, parts)| parts.sum()));
        let mut worst = 0.0_f64;
        for (entry, parts) in parts {
            let share = f64::from(entry.weight) / before;
            let wanted = if matches!(entry.group, Group::Stable(_)) {
                split
            } else {
                Split {
                    canary: Weight::ZERO,
                    baseline: None,
                }
            };
            let fraction = |weight: Weight| f64::from(weight.tenths()) / 1000.0;
            let canary = fraction(wanted.canary);
            let baseline = fraction(wanted.of_baseline());
            let all = [
                (parts.rest, 1.0 - canary - baseline),
                (parts.canary, canary),
                (parts.baseline, baseline),
            ];
            for (got, wanted) in all {
                // The fractions are sums of tenths of a percent, so a rest below this is none.
                if got > LARGEST_WEIGHT || (got == 0) != (share * wanted <= 1e-9) {
                    return None;
                }
                worst = worst.max((f64::from(got) / after - share * wanted).abs() * 100.0);
                if parts.sum() > 0 {
                    let of_all = f64::from(got) / f64::from(parts.sum());
                    worst = worst.max((of_all - wanted).abs() * 100.0);
                }
            }
        }
        Some(worst)
    }

    pub(super) fn cannot_express(&self, split: Split) -> Option<String> {
        if self.scale_for(split).is_some() {
            return None;
        }
        let weight = split.canary;
        let at = |weight| Split::at(weight, split.baseline.is_some());
        let nearest = (1..=1000)
            .filter_map(Weight::from_tenths)
            .filter(|other| self.scale_for(at(*other)).is_some())
            .min_by_key(|other| (other.tenths().abs_diff(weight.tenths()), other.tenths()));
        let nearest = nearest.map_or_else(String::new, |nearest| {
            format!("; the nearest that it can is {nearest}")
        });
        Some(format!(
            "{} divides its traffic among other target groups as well, and whole weights up to {LARGEST_WEIGHT} cannot express {weight} percent beside them to within {LARGEST_ERROR} percentage points{nearest}",
            self.name
        ))
    }
}

/// By how much all weights of a rule are multiplied.
#[derive(Debug, Clone, Copy)]
struct Scale {
    to: u32,
    from: u32,
}

impl Scale {
    const ONE: Self = Self { to: 1, from: 1 };

    /// What becomes of an entry's weight at this scale.
    fn parts(self, entry: &GroupWeight, split: Split) -> Parts {
        let whole = rounded(
            u64::from(entry.weight) * u64::from(self.to),
            self.from.into(),
        );
        if !matches!(entry.group, Group::Stable(_)) {
            return Parts {
                rest: whole,
                canary: 0,
                baseline: 0,
            };
        }
        let part = |weight: Weight| rounded(u64::from(whole) * u64::from(weight.tenths()), 1000);
        let (canary, baseline) = (part(split.canary), part(split.of_baseline()));
        Parts {
            // Two halves of an odd number are rounded up to more than the whole; such a scale is not chosen.
            rest: whole.saturating_sub(canary + baseline),
            canary,
            baseline,
        }
    }
}

/// What becomes of an entry's weight.
#[derive(Debug, Clone, Copy)]
struct Parts {
    rest: u32,
    canary: u32,
    baseline: u32,
}

impl Parts {
    const fn sum(self) -> u32 {
        self.rest + self.canary + self.baseline
    }
}

/// The quotient, rounded half up.
fn rounded(dividend: u64, divisor: u64) -> u32 {
    u32::try_from((2 * dividend + divisor) / (2 * divisor)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stable(weight: u32) -> GroupWeight {
        GroupWeight {
            group: Group::Stable(0),
            weight,
        }
    }

    fn other(weight: u32) -> GroupWeight {
        GroupWeight {
            group: Group::Other(format!("other-{weight}")),
            weight,
        }
    }

    fn rule(groups: Vec<GroupWeight>) -> RuleRecord {
        RuleRecord {
            listener_arn: "listener".into(),
            rule_arn: Some("rule".into()),
            name: "rule 10 of listener HTTPS:443 of load balancer shop".into(),
            fingerprint: String::new(),
            groups,
            sticky_seconds: None,
        }
    }

    fn weight_of(groups: &[GroupWeight], is: impl Fn(&Group) -> bool) -> u32 {
        groups
            .iter()
            .filter(|entry| is(&entry.group))
            .map(|entry| entry.weight)
            .sum()
    }

    fn canary(groups: &[GroupWeight]) -> u32 {
        weight_of(groups, |group| matches!(group, Group::Canary(_)))
    }

    fn percent(percent: f64) -> Weight {
        Weight::from_percent(percent).unwrap()
    }

    #[test]
    fn a_baseline_shares_with_the_canary_what_stable_gives_and_has_nothing_from_half_on() {
        let weights = |rule: &RuleRecord, percent: f64| -> Vec<_> {
            let weight = Weight::from_percent(percent).unwrap();
            let groups = rule.groups_at(Split::with_baseline(weight)).unwrap();
            groups.into_iter().map(|entry| entry.weight).collect()
        };
        let alone = rule(vec![stable(1)]);
        assert_eq!(weights(&alone, 0.0), [1, 0, 0]);
        assert_eq!(weights(&alone, 12.5), [750, 125, 125]);
        assert_eq!(weights(&alone, 49.9), [2, 499, 499]);
        assert_eq!(weights(&alone, 50.0), [500, 500, 0]);
        let beside_another = rule(vec![stable(80), other(20)]);
        let [rest, others, canary, baseline] = weights(&beside_another, 10.0)[..] else {
            panic!("four groups");
        };
        assert_eq!(
            (canary, 8 * canary, rest),
            (baseline, rest, 4 * 2 * baseline)
        );
        assert_eq!(4 * others, rest + canary + baseline);
    }

    #[test]
    fn a_rule_without_room_for_two_more_groups_is_named() {
        let record = |groups| AlbRecord {
            balancer: LoadBalancerKind::Application,
            groups: Vec::new(),
            rules: vec![rule(groups)],
            left_out: Vec::new(),
        };
        let others = |many| (1..=many).map(other);
        let with = |many| record(std::iter::once(stable(1)).chain(others(many)).collect());
        assert_eq!(with(2).refuses_baseline(), None);
        let why = with(3).refuses_baseline().unwrap();
        assert!(
            why.contains("has 4 target groups, and a load balancer allows 5"),
            "{why}"
        );
    }

    proptest! {
        #[test]
        fn every_tenth_of_a_percent_is_within_a_hundredth_of_a_point_for_a_service_that_is_alone_in_its_rule(
            weight in 1_u32..=999, idle in any::<bool>(),
        ) {
            let mut before = vec![stable(weight)];
            before.extend(idle.then(|| other(0)));
            let rule = rule(before);
            for tenths in 1..=1000 {
                let groups = rule.groups_at(Split::between_two(Weight::from_tenths(tenths).unwrap())).unwrap();
                prop_assert!(groups.iter().all(|entry| entry.weight <= 999));
                let sum: u32 = groups.iter().map(|entry| entry.weight).sum();
                let got = f64::from(canary(&groups)) * 100.0 / f64::from(sum);
                prop_assert!((got - f64::from(tenths) / 10.0).abs() < 0.01, "{groups:?}");
            }
        }

        #[test]
        fn whatever_a_rule_had_before_keeps_its_share_and_is_restored_exactly(
            tenths in 0_u16..=1000,
            before in prop::collection::vec(0_u32..=999, 1..=4),
            place in 0_usize..4,
            sticky in any::<bool>(),
        ) {
            let mut groups: Vec<_> = before.iter().map(|weight| other(*weight)).collect();
            let place = place % groups.len();
            groups[place].group = Group::Stable(0);
            let rule = RuleRecord { sticky_seconds: sticky.then_some(60), ..rule(groups.clone()) };
            let weight = Weight::from_tenths(tenths).unwrap();
            if let Some(shifted) = rule.groups_at(Split::between_two(weight)) {
                prop_assert!(shifted.iter().all(|entry| entry.weight <= 999), "{shifted:?}");
                let whole = |groups: &[GroupWeight]| f64::from(groups.iter().map(|entry| entry.weight).sum::<u32>().max(1));
                for (index, entry) in groups.iter().enumerate() {
                    let mut now = shifted[index].weight;
                    if index == place {
                        now += canary(&shifted);
                    }
                    let moved = f64::from(now) / whole(&shifted) - f64::from(entry.weight) / whole(&groups);
                    prop_assert!(moved.abs() < 0.0002, "{groups:?} became {shifted:?}");
                }
                let own = shifted[place].weight + canary(&shifted);
                if own > 0 {
                    let got = f64::from(canary(&shifted)) * 100.0 / f64::from(own);
                    prop_assert!((got - weight.percent()).abs() < 0.01, "{shifted:?}");
                }
            }
            let without_canary: Vec<_> = rule
                .settled_on_stable()
                .into_iter()
                .filter(|entry| !matches!(entry.group, Group::Canary(_)))
                .collect();
            prop_assert_eq!(canary(&rule.settled_on_stable()), 0);
            prop_assert_eq!(without_canary, groups.clone());
            prop_assert_eq!(rule.original(), groups);
        }
    }

    #[test]
    fn the_pair_is_the_one_that_a_person_expects() {
        let rule = rule(vec![stable(1)]);
        let pair = |weight| -> Vec<u32> {
            let groups = rule.groups_at(Split::between_two(percent(weight))).unwrap();
            groups.iter().map(|entry| entry.weight).collect()
        };
        assert_eq!(pair(0.0), [1, 0]);
        assert_eq!(pair(0.1), [999, 1]);
        assert_eq!(pair(5.0), [950, 50]);
        assert_eq!(pair(99.9), [1, 999]);
        assert_eq!(pair(100.0), [0, 999]);
    }

    #[test]
    fn beside_another_target_group_a_weight_that_whole_numbers_cannot_say_is_refused_with_the_nearest()
     {
        let rule = rule(vec![stable(1), other(3)]);
        assert_eq!(rule.cannot_express(Split::between_two(percent(10.0))), None);
        let sentence = rule
            .cannot_express(Split::between_two(percent(0.1)))
            .unwrap();
        assert!(
            sentence.contains("cannot express 0.1 percent")
                && sentence.ends_with("the nearest that it can is 0.3"),
            "{sentence}"
        );
    }

    #[test]
    fn two_target_groups_of_one_service_in_one_rule_are_divided_alike() {
        let second = GroupWeight {
            group: Group::Stable(1),
            weight: 3,
        };
        let groups = rule(vec![stable(1), second])
            .groups_at(Split::between_two(percent(20.0)))
            .unwrap();
        let of = |group: &Group| weight_of(&groups, |other| other == group);
        let (first, second) = (of(&Group::Canary(0)), of(&Group::Canary(1)));
        assert_eq!(of(&Group::Stable(0)), 4 * first);
        assert_eq!(of(&Group::Stable(1)), 4 * second);
        assert_eq!(second, 3 * first);
    }

    #[test]
    fn a_side_that_loses_its_traffic_stays_in_the_rule_to_drain_unless_clients_stick_to_it() {
        let plain = rule(vec![stable(7), other(3)]);
        assert_eq!(
            plain.settled_on_stable(),
            [
                stable(7),
                other(3),
                GroupWeight {
                    group: Group::Canary(0),
                    weight: 0
                }
            ]
        );
        let sticky = RuleRecord {
            sticky_seconds: Some(3600),
            ..plain.clone()
        };
        assert_eq!(sticky.settled_on_stable(), plain.original());
        assert_eq!(sticky.settled_on_canary(), plain.replaced());
    }

    #[test]
    fn the_canarys_target_group_is_known_by_its_name_and_its_account() {
        let pair = GroupPair {
            baseline_name: String::new(),
            stable: TargetGroupUse {
                target_group_arn:
                    "arn:aws:elasticloadbalancing:eu-west-1:1:targetgroup/shop/73e2d6bc24d8a067"
                        .into(),
                container: "app".into(),
                port: 8080,
            },
            canary_name: "shop-canary-1a2b3c4d".into(),
            load_balancer_arn: String::new(),
            deregistration_delay_seconds: 300,
            sticky: false,
            grpc: false,
        };
        let of = |account: &str, name: &str| {
            format!(
                "arn:aws:elasticloadbalancing:eu-west-1:{account}:targetgroup/{name}/6d0ecf831eec9f09"
            )
        };
        assert!(pair.is_canary(&of("1", "shop-canary-1a2b3c4d")));
        assert!(!pair.is_canary(&of("2", "shop-canary-1a2b3c4d")));
        assert!(!pair.is_canary(&of("1", "shop-canary-1a2b3c4d-2")));
    }
}
