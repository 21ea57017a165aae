//! What `sam deploy` makes in an account, made in moto: the ledger's table and the state machines.
//!
//! The functions are not made: moto's state machine calls them at the gateway, which knows them.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::aws_cli::pascal_case;
use crate::checkout::Checkout;
use crate::functions::FUNCTIONS;
use crate::moto::{Moto, MotoError, Service};

/// The account of the local cloud, the one that moto uses.
pub const ACCOUNT: &str = "123456789012";

/// The region of the local cloud.
pub const REGION: &str = "us-east-1";

/// The name of the ledger's table.
pub const LEDGER_TABLE: &str = "serin-ledger";

/// The stack's name, with which the names of the state machines begin.
const STACK: &str = "serin";

/// The definitions of the state machines.
const DEPLOYMENT: &str = "canary-deployment";
const RECOVERY: &str = "recovery";

/// The name of the secret with the notice channels.
pub(crate) const CHANNELS: &str = "serin-notices";

/// The state machines, by their ARNs.
#[derive(Debug, Clone)]
pub(crate) struct StateMachines {
    /// The one that deploys.
    pub(crate) deployment: String,
    /// The one that repairs what a dead execution has left.
    pub(crate) recovery: String,
}

/// The ARN of the recovery, which a function must know before the state machine is made.
pub(crate) fn recovery() -> String {
    format!("arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:{STACK}-{RECOVERY}")
}

/// Why the stack could not be made.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// The definition could not be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The definition.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// The definition names something that the template would have filled in and the local cloud does not know.
    #[error("{} has ${{{name}}}, which nothing fills in", path.display())]
    UnknownSubstitution {
        /// The definition.
        path: PathBuf,
        /// The name between the braces.
        name: String,
    },
    /// Moto refused something.
    #[error(transparent)]
    Moto(#[from] MotoError),
}

/// Makes the stack.
pub(crate) async fn create(moto: &Moto, checkout: &Checkout) -> Result<StateMachines, StackError> {
    moto.configure(
        "/moto-api/config",
        &json!({"stepfunctions": {"execute_state_machine": true}}),
    )
    .await?;
    create_ledger(moto).await?;
    Ok(StateMachines {
        deployment: create_state_machine(moto, checkout, DEPLOYMENT).await?,
        recovery: create_state_machine(moto, checkout, RECOVERY).await?,
    })
}

/// Makes a state machine and returns its ARN.
async fn create_state_machine(
    moto: &Moto,
    checkout: &Checkout,
    name: &str,
) -> Result<String, StackError> {
    let path = checkout.state_machine(name);
    let text = std::fs::read_to_string(&path).map_err(|source| StackError::Unreadable {
        path: path.clone(),
        source,
    })?;
    let text = fill_in(&text).map_err(|name| StackError::UnknownSubstitution { path, name })?;
    let request = json!({
        "name": format!("{STACK}-{name}"),
        "definition": text,
        "roleArn": format!("arn:aws:iam::{ACCOUNT}:role/{STACK}-{name}"),
    });
    let created = moto
        .call(Service::StepFunctions, "CreateStateMachine", &request)
        .await?;
    Ok(created["stateMachineArn"]
        .as_str()
        .unwrap_or_default()
        .to_owned())
}

/// Keeps the notice channels in a secret.
pub(crate) async fn create_channels(moto: &Moto, channels: &Value) -> Result<(), MotoError> {
    let secret = json!({"Name": CHANNELS, "SecretString": channels.to_string()});
    moto.call(Service::SecretsManager, "CreateSecret", &secret)
        .await
        .map(drop)
}

async fn create_ledger(moto: &Moto) -> Result<(), MotoError> {
    let table = json!({
        "TableName": LEDGER_TABLE,
        "AttributeDefinitions": [
            {"AttributeName": "id", "AttributeType": "S"},
            {"AttributeName": "execution", "AttributeType": "S"},
            {"AttributeName": "listed", "AttributeType": "S"},
            {"AttributeName": "startedAt", "AttributeType": "S"},
        ],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [{
            "IndexName": "held",
            "KeySchema": [{"AttributeName": "execution", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "ALL"},
        }, {
            "IndexName": "recent",
            "KeySchema": [
                {"AttributeName": "listed", "KeyType": "HASH"},
                {"AttributeName": "startedAt", "KeyType": "RANGE"},
            ],
            "Projection": {
                "ProjectionType": "INCLUDE",
                "NonKeyAttributes": ["service", "version", "phase", "ending", "endedAt"],
            },
        }],
        "BillingMode": "PAY_PER_REQUEST",
    });
    moto.call(Service::DynamoDb, "CreateTable", &table).await?;
    let expiry = json!({
        "TableName": LEDGER_TABLE,
        "TimeToLiveSpecification": {"AttributeName": "expiresAt", "Enabled": true},
    });
    moto.call(Service::DynamoDb, "UpdateTimeToLive", &expiry)
        .await?;
    Ok(())
}

/// Every item of the ledger, for tests and for whoever is curious.
pub(crate) async fn ledger(moto: &Moto) -> Result<Vec<Value>, MotoError> {
    let scan = json!({"TableName": LEDGER_TABLE, "ConsistentRead": true});
    let mut answer = moto.call(Service::DynamoDb, "Scan", &scan).await?;
    Ok(match answer["Items"].take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    })
}

/// The ARN of a function.
pub(crate) fn function(name: &str) -> String {
    format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")
}

/// Fills in `${PlanDeploymentFunctionArn}` and its like. What is left over is the error.
fn fill_in(definition: &str) -> Result<String, String> {
    let mut text = definition.to_owned();
    for function in FUNCTIONS {
        let arn = self::function(function);
        text = text.replace(&format!("${{{}FunctionArn}}", pascal_case(function)), &arn);
    }
    match text.split_once("${") {
        None => Ok(text),
        Some((_, rest)) => Err(rest.split('}').next().unwrap_or(rest).to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::fill_in;

    #[test]
    fn the_functions_arns_are_filled_in_and_what_is_left_over_is_named() {
        assert_eq!(
            fill_in(r#""${PlanDeploymentFunctionArn}""#).unwrap(),
            r#""arn:aws:lambda:us-east-1:123456789012:function:plan-deployment""#
        );
        assert_eq!(fill_in("${Nobody}").unwrap_err(), "Nobody");
    }
}
