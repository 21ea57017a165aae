//! Elastic Load Balancing before moto: what moto accepts and AWS does not, and what only the data plane knows.

use serde_json::{Value, json};

use super::operation::Operation;
use super::{ApiRequest, ApiResponse, Shared};
use crate::load_balancing::{self, as_aws_shows, list, number};
use crate::moto::MotoError;
use crate::query;

/// The service's name in calls and in IAM.
pub(super) const SERVICE: &str = "elasticloadbalancing";

/// The largest weight of a target group.
const LARGEST_WEIGHT: u64 = 999;

/// How many target groups one action may forward to.
const MOST_GROUPS: usize = 5;

/// A refusal: its name and its text.
type Refusal = (&'static str, String);

impl Shared {
    /// Answers a call of Elastic Load Balancing as AWS would.
    pub(super) async fn ask_load_balancing(
        &self,
        operation: &Operation,
        request: ApiRequest,
    ) -> ApiResponse {
        let action = operation.name.as_str();
        let question = query::read_form(&request.body);
        if let Some((code, message)) = refusal(action, &question) {
            return ApiResponse::query_error(400, code, &message);
        }
        if action == "ModifyRule" && self.is_default_rule(&question).await {
            return ApiResponse::query_error(
                400,
                "OperationNotPermitted",
                "You cannot modify the default rule",
            );
        }
        if action == "DescribeTargetGroups" {
            return self
                .describe_target_groups(question)
                .await
                .unwrap_or_else(|refused| moto_refused(&refused));
        }
        let mut response = self.pass_on(request).await;
        if action == "CreateTargetGroup" && !response.status.is_success() {
            return self.created_before(&question).await.unwrap_or(response);
        }
        if !response.status.is_success() {
            return response;
        }
        match (action, self.targets.get()) {
            ("RegisterTargets" | "DeregisterTargets", Some(targets)) => {
                targets.change(action, &question);
            }
            ("DescribeTargetHealth", Some(targets)) => {
                return answer(action, &targets.describe(&question));
            }
            _ => {}
        }
        let text = String::from_utf8_lossy(&response.body);
        if let Some((root, mut answer)) = query::read_xml(&text)
            && let Some(result) = answer.get_mut(format!("{action}Result"))
        {
            as_aws_shows(result);
            response.body = query::write_xml(&root, &answer).into();
        }
        response
    }

    /// Refuses target groups that do not exist or that no load balancer uses, as ECS does.
    pub(super) async fn check_load_balancers(&self, given: &Value) -> Result<(), ApiResponse> {
        let groups: Vec<&str> = list(given)
            .filter_map(|each| each["targetGroupArn"].as_str())
            .collect();
        if groups.is_empty() {
            return Ok(());
        }
        let refuse = |message: &str| ApiResponse::error(400, "InvalidParameterException", message);
        let listeners = load_balancing::listeners(&self.client)
            .await
            .map_err(|problem| refuse(&problem.to_string()))?;
        let attachments = load_balancing::attachments(&listeners);
        for arn in groups {
            let request = json!({"TargetGroupArns": [arn]});
            let found = self
                .client
                .load_balancing("DescribeTargetGroups", &request)
                .await;
            if found.is_err() {
                return Err(refuse(&format!(
                    "The specified target group does not exist. ({arn})"
                )));
            }
            if !attachments.contains_key(arn) {
                return Err(refuse(&format!(
                    "The target group with targetGroupArn {arn} does not have an associated load balancer."
                )));
            }
        }
        Ok(())
    }

    async fn is_default_rule(&self, question: &Value) -> bool {
        let request = json!({"RuleArns": [question["RuleArn"]]});
        let described = self.client.load_balancing("DescribeRules", &request).await;
        described.is_ok_and(|described| described["Rules"][0]["IsDefault"] == "true")
    }

    /// Moto knows the load balancers of a target group only from actions that name no other group, and counts each
    /// action anew.
    async fn describe_target_groups(&self, mut question: Value) -> Result<ApiResponse, MotoError> {
        let mut of_load_balancer = None;
        if let Some(members) = question.as_object_mut() {
            of_load_balancer = members.remove("LoadBalancerArn");
            members.remove("Action");
            members.remove("Version");
        }
        let action = "DescribeTargetGroups";
        let mut described = self.client.load_balancing(action, &question).await?;
        let listeners = load_balancing::listeners(&self.client).await?;
        let attachments = load_balancing::attachments(&listeners);
        let groups = described["TargetGroups"].as_array_mut();
        if let Some(groups) = groups {
            for group in groups.iter_mut() {
                let arn = group["TargetGroupArn"].as_str().unwrap_or_default();
                let used_by: Vec<&String> = attachments.get(arn).into_iter().flatten().collect();
                group["LoadBalancerArns"] = json!(used_by);
            }
            if let Some(balancer) = of_load_balancer {
                groups.retain(|group| list(&group["LoadBalancerArns"]).any(|arn| *arn == balancer));
            }
        }
        Ok(answer(action, &described))
    }

    /// A target group that exists with the same settings is answered as if it had been created: AWS calls the operation
    /// idempotent, moto refuses the name.
    async fn created_before(&self, question: &Value) -> Option<ApiResponse> {
        let request = json!({"Names": [question["Name"]]});
        let described = self
            .client
            .load_balancing("DescribeTargetGroups", &request)
            .await
            .ok()?;
        let group = &described["TargetGroups"][0];
        let same = question.as_object()?.iter().all(|(name, asked)| {
            matches!(name.as_str(), "Action" | "Version" | "Name" | "Tags") || group[name] == *asked
        });
        same.then(|| answer("CreateTargetGroup", &described))
    }
}

/// What AWS refuses and moto does not.
fn refusal(action: &str, question: &Value) -> Option<Refusal> {
    let actions = match action {
        "CreateRule" | "ModifyRule" => &question["Actions"],
        "CreateListener" | "ModifyListener" => &question["DefaultActions"],
        _ => return None,
    };
    for action in list(actions) {
        let groups = &action["ForwardConfig"]["TargetGroups"];
        for weight in list(groups).filter_map(|group| number(&group["Weight"])) {
            if weight > LARGEST_WEIGHT {
                return Some((
                    "ValidationError",
                    format!("Weight '{weight}' must be between 0 and {LARGEST_WEIGHT} inclusive"),
                ));
            }
        }
        if list(groups).count() > MOST_GROUPS {
            return Some((
                "TooManyTargetGroups",
                format!("An action can forward to at most {MOST_GROUPS} target groups"),
            ));
        }
        let client = &action["AuthenticateOidcConfig"];
        if client.is_object()
            && client.get("ClientSecret").is_none()
            && client["UseExistingClientSecret"] != "true"
        {
            return Some((
                "InvalidLoadBalancerAction",
                "A client secret is required, or UseExistingClientSecret".to_owned(),
            ));
        }
    }
    None
}

fn answer(action: &str, result: &Value) -> ApiResponse {
    let mut whole = json!({"ResponseMetadata": {"RequestId": "local"}});
    whole[format!("{action}Result")] = result.clone();
    ApiResponse {
        body: query::write_xml(&format!("{action}Response"), &whole).into(),
        ..ApiResponse::xml(200)
    }
}

fn moto_refused(refused: &MotoError) -> ApiResponse {
    match refused {
        MotoError::Refused { code, message, .. } => ApiResponse::query_error(400, code, message),
        MotoError::Unreachable { .. } => {
            ApiResponse::query_error(503, "ServiceUnavailable", &refused.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::refusal;

    fn forward(weights: &[u32]) -> serde_json::Value {
        let groups: Vec<_> = weights
            .iter()
            .map(|weight| json!({"TargetGroupArn": "a", "Weight": weight.to_string()}))
            .collect();
        json!([{"Type": "forward", "ForwardConfig": {"TargetGroups": groups}}])
    }

    #[test]
    fn weights_above_999_and_more_than_five_groups_are_refused() {
        for action in ["ModifyRule", "ModifyListener"] {
            let ask = |actions| {
                let question = json!({"Actions": actions, "DefaultActions": actions});
                refusal(action, &question).map(|(code, _)| code)
            };
            assert_eq!(ask(forward(&[999, 0])), None);
            assert_eq!(ask(forward(&[1000, 0])), Some("ValidationError"));
            assert_eq!(ask(forward(&[1; 6])), Some("TooManyTargetGroups"));
        }
    }

    #[test]
    fn a_client_is_only_written_with_its_secret_or_with_the_word_to_keep_it() {
        let ask = |client| {
            let actions = json!([{"Type": "authenticate-oidc", "AuthenticateOidcConfig": client}]);
            refusal("ModifyRule", &json!({"Actions": actions}))
        };
        assert!(ask(json!({"ClientId": "i"})).is_some());
        assert!(ask(json!({"ClientId": "i", "ClientSecret": "s"})).is_none());
        assert!(ask(json!({"ClientId": "i", "UseExistingClientSecret": "true"})).is_none());
    }
}
