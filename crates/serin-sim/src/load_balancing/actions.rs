//! The actions of a rule: what Elastic Load Balancing accepts, and the form in which it gives them back.

use std::collections::BTreeSet;

use aws_sdk_elasticloadbalancingv2::types::{
    Action, ActionTypeEnum, AuthenticateOidcActionConditionalBehaviorEnum,
    AuthenticateOidcActionConfig, ForwardActionConfig, Listener, LoadBalancer, ProtocolEnum,
    TargetGroupStickinessConfig, TargetGroupTuple, TargetTypeEnum,
};

use super::{LoadBalancing, is_application, no_group, validation};
use crate::wire::Refusal;

/// How many target groups an action forwards to at most.
const MOST_GROUPS: usize = 5;
/// The greatest weight.
const GREATEST_WEIGHT: i32 = 999;
/// The longest stickiness, in seconds: a week.
const LONGEST_STICKINESS: i32 = 604_800;

/// The target groups that actions forward to; empty when they answer themselves. Actions that were read always have them.
pub fn tuples(actions: &[Action]) -> &[TargetGroupTuple] {
    actions
        .iter()
        .find_map(Action::forward_config)
        .map(ForwardActionConfig::target_groups)
        .unwrap_or_default()
}

/// The same, to change them.
pub fn tuples_mut(actions: &mut [Action]) -> Option<&mut Vec<TargetGroupTuple>> {
    actions
        .iter_mut()
        .find_map(|action| action.forward_config.as_mut())
        .and_then(|forward| forward.target_groups.as_mut())
}

fn wrong_action(message: impl Into<String>) -> Refusal {
    Refusal::new("InvalidLoadBalancerAction", message)
}

impl LoadBalancing {
    /// Checks actions that somebody gives to a listener's rule in the place of `before`, and gives the form in which they
    /// are shown from then on.
    pub(super) fn checked(
        &self,
        listener: &Listener,
        actions: &[Action],
        before: &[Action],
    ) -> Result<Vec<Action>, Refusal> {
        let balancer = self
            .balancer(listener.load_balancer_arn().unwrap_or_default())
            .expect("a listener has a load balancer");
        check_order(actions)?;
        actions
            .iter()
            .map(|action| {
                let mut action = action.clone();
                match action.r#type.clone() {
                    Some(ActionTypeEnum::Forward) => {
                        let forward = self.checked_forward(balancer, &action)?;
                        let groups = forward.target_groups();
                        action.target_group_arn = match groups {
                            [only] => only.target_group_arn.clone(),
                            _ => None,
                        };
                        action.forward_config = Some(forward);
                    }
                    _ if !is_application(balancer) => {
                        return Err(wrong_action("A Network Load Balancer can only forward"));
                    }
                    Some(ActionTypeEnum::FixedResponse) => {
                        let code = action
                            .fixed_response_config()
                            .and_then(|config| config.status_code());
                        if !code.is_some_and(|code| code.starts_with(['2', '4', '5'])) {
                            return Err(validation("A fixed response needs a status code"));
                        }
                    }
                    Some(ActionTypeEnum::Redirect) if action.redirect_config.is_some() => {}
                    Some(ActionTypeEnum::AuthenticateOidc) => {
                        if listener.protocol() != Some(&ProtocolEnum::Https) {
                            return Err(wrong_action(
                                "Actions of type authenticate-oidc need an HTTPS listener",
                            ));
                        }
                        let config = action.authenticate_oidc_config.take();
                        action.authenticate_oidc_config = Some(checked_oidc(config, before)?);
                    }
                    other => {
                        return Err(validation(format!("The action {other:?} is not valid")));
                    }
                }
                Ok(action)
            })
            .collect()
    }

    fn checked_forward(
        &self,
        balancer: &LoadBalancer,
        action: &Action,
    ) -> Result<ForwardActionConfig, Refusal> {
        let mut forward = match (action.target_group_arn(), action.forward_config.clone()) {
            (None, None) => {
                return Err(validation("A forward action needs a target group"));
            }
            (Some(arn), None) => ForwardActionConfig::builder()
                .target_groups(TargetGroupTuple::builder().target_group_arn(arn).build())
                .build(),
            (None, Some(forward)) => forward,
            (Some(arn), Some(forward)) => {
                let same = matches!(forward.target_groups(), [only] if only.target_group_arn() == Some(arn));
                if !same {
                    return Err(validation(
                        "With a TargetGroupArn, a ForwardConfig may only have this target group",
                    ));
                }
                forward
            }
        };
        let groups = forward.target_groups.get_or_insert_default();
        if !(1..=MOST_GROUPS).contains(&groups.len()) {
            return Err(validation(format!(
                "A forward action must have 1 to {MOST_GROUPS} target groups, not {}",
                groups.len()
            )));
        }
        let mut seen = BTreeSet::new();
        for tuple in groups {
            let weight = *tuple.weight.get_or_insert(1);
            if !(0..=GREATEST_WEIGHT).contains(&weight) {
                return Err(validation(format!(
                    "The weight {weight} must be between 0 and {GREATEST_WEIGHT}"
                )));
            }
            let arn = tuple.target_group_arn().unwrap_or_default();
            self.check_group(balancer, arn)?;
            if !seen.insert(arn.to_owned()) {
                return Err(validation(format!("The target group {arn} is there twice")));
            }
        }
        let sticky = checked_stickiness(
            forward.target_group_stickiness_config.take(),
            is_application(balancer),
        )?;
        let binds = |arn: &String| {
            let group = self.group(arn);
            group.is_some_and(|group| group.attributes["stickiness.enabled"] == "true")
        };
        if is_application(balancer)
            && seen.len() > 1
            && sticky.enabled != Some(true)
            && seen.iter().any(binds)
        {
            return Err(Refusal::new(
                "InvalidConfigurationRequest",
                "You must enable group stickiness on a rule if you enabled target stickiness on one of its target groups",
            ));
        }
        forward.target_group_stickiness_config = Some(sticky);
        Ok(forward)
    }

    /// Whether this load balancer can forward to a target group.
    fn check_group(&self, balancer: &LoadBalancer, arn: &str) -> Result<(), Refusal> {
        let group = self.group(arn).ok_or_else(|| no_group(arn))?;
        let elsewhere = self
            .balancer_of(arn)
            .is_some_and(|other| other.load_balancer_arn() != balancer.load_balancer_arn());
        if elsewhere {
            return Err(Refusal::new(
                "TargetGroupAssociationLimit",
                format!(
                    "The following target groups cannot be associated with more than one load balancer: {arn}"
                ),
            ));
        }
        let http = matches!(
            group.data.protocol(),
            Some(ProtocolEnum::Http | ProtocolEnum::Https)
        );
        let lambda = group.data.target_type() == Some(&TargetTypeEnum::Lambda);
        if is_application(balancer) != (http || lambda) {
            return Err(Refusal::new(
                "IncompatibleProtocols",
                format!("The protocol of {arn} does not suit the load balancer"),
            ));
        }
        if !lambda && group.data.vpc_id() != balancer.vpc_id() {
            return Err(Refusal::new(
                "InvalidConfigurationRequest",
                format!("{arn} is not in the load balancer's VPC"),
            ));
        }
        Ok(())
    }
}

/// Exactly one action answers the request, and it is the last.
fn check_order(actions: &[Action]) -> Result<(), Refusal> {
    let answers = |action: &Action| {
        matches!(
            action.r#type,
            Some(
                ActionTypeEnum::Forward | ActionTypeEnum::Redirect | ActionTypeEnum::FixedResponse
            )
        )
    };
    if actions.is_empty() {
        return Err(validation("At least one action is required"));
    }
    let orders: BTreeSet<i32> = actions.iter().filter_map(Action::order).collect();
    let in_range = orders.iter().all(|order| (1..=50_000).contains(order));
    if !in_range || (actions.len() > 1 && orders.len() != actions.len()) {
        return Err(validation("Every action needs an order of its own"));
    }
    let last = actions.iter().max_by_key(|action| action.order());
    if !last.is_some_and(answers) || actions.iter().filter(|action| answers(action)).count() != 1 {
        return Err(wrong_action(
            "The last action, and only this one, must be forward, redirect or fixed-response",
        ));
    }
    Ok(())
}

fn checked_stickiness(
    given: Option<TargetGroupStickinessConfig>,
    application: bool,
) -> Result<TargetGroupStickinessConfig, Refusal> {
    let enabled = given
        .as_ref()
        .and_then(TargetGroupStickinessConfig::enabled)
        == Some(true);
    let duration = given.and_then(|config| config.duration_seconds);
    if duration.is_some_and(|seconds| !(1..=LONGEST_STICKINESS).contains(&seconds)) {
        return Err(validation("The stickiness must last 1 to 604800 seconds"));
    }
    if enabled && duration.is_none() {
        return Err(validation("The stickiness needs DurationSeconds"));
    }
    if enabled && !application {
        return Err(Refusal::new(
            "InvalidConfigurationRequest",
            "A Network Load Balancer has no target group stickiness",
        ));
    }
    Ok(TargetGroupStickinessConfig::builder()
        .enabled(enabled)
        .set_duration_seconds(duration)
        .build())
}

/// The secret is never shown again.
fn checked_oidc(
    config: Option<AuthenticateOidcActionConfig>,
    before: &[Action],
) -> Result<AuthenticateOidcActionConfig, Refusal> {
    let mut config = config.ok_or_else(|| validation("AuthenticateOidcConfig is required"))?;
    let complete = [
        &config.issuer,
        &config.authorization_endpoint,
        &config.token_endpoint,
        &config.user_info_endpoint,
        &config.client_id,
    ];
    if complete.iter().any(|member| member.is_none()) {
        return Err(validation("AuthenticateOidcConfig is not complete"));
    }
    let existing = config.use_existing_client_secret == Some(true);
    if existing == config.client_secret.is_some() {
        return Err(validation(
            "Either ClientSecret or UseExistingClientSecret is required",
        ));
    }
    let had_one = before
        .iter()
        .filter_map(Action::authenticate_oidc_config)
        .any(|had| had.issuer == config.issuer && had.client_id == config.client_id);
    if existing && !had_one {
        return Err(validation("There is no existing client secret"));
    }
    config.client_secret = None;
    config.use_existing_client_secret = None;
    config
        .session_cookie_name
        .get_or_insert_with(|| "AWSELBAuthSessionCookie".to_owned());
    config.scope.get_or_insert_with(|| "openid".to_owned());
    config.session_timeout.get_or_insert(604_800);
    config
        .on_unauthenticated_request
        .get_or_insert(AuthenticateOidcActionConditionalBehaviorEnum::Authenticate);
    Ok(config)
}
