//! What the notice channels have had, in the ledger's table.
//!
//! One item for each channel of a deployment, `delivery#<execution>#<channel>`: an attribute `had#<notice>` for each notice that it
//! has had, `shown#<notice>` for each that the first message of the thread has shown, `thread` (that message), `opens` (the
//! notice that may open the thread), `shows` (the moment of the notice that it is to show) and `expiresAt`.

use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::SignedDuration;
use serin::ports::{Delivered, Deliveries, Delivery};
use serin::{ExecutionArn, Notice, PortError};

use crate::error::failed;

/// How long what a channel had is kept after the notice.
const KEPT: SignedDuration = SignedDuration::from_hours(90 * 24);

const HAD: &str = "had#";
const SHOWN: &str = "shown#";

/// What the notice channels have had.
#[derive(Debug, Clone)]
pub struct DynamoDbDeliveries {
    dynamo_db: aws_sdk_dynamodb::Client,
    table: String,
}

impl DynamoDbDeliveries {
    pub(crate) fn new(dynamo_db: aws_sdk_dynamodb::Client, table: impl Into<String>) -> Self {
        Self {
            dynamo_db,
            table: table.into(),
        }
    }

    fn update(&self, notice: &Notice, channel: &str) -> UpdateItemFluentBuilder {
        self.dynamo_db
            .update_item()
            .table_name(&self.table)
            .key("id", AttributeValue::S(id(&notice.execution, channel)))
    }

    /// The same, of an item that stays as long as the deployment's history.
    fn set(&self, notice: &Notice, channel: &str, expression: &str) -> UpdateItemFluentBuilder {
        let expires = (notice.at + KEPT).as_second().to_string();
        self.update(notice, channel)
            .update_expression(format!("SET #expiresAt = :expires, {expression}"))
            .expression_attribute_names("#expiresAt", "expiresAt")
            .expression_attribute_values(":expires", AttributeValue::N(expires))
    }
}

/// Makes the update; gives whether its condition held.
async fn make(update: UpdateItemFluentBuilder) -> Result<bool, PortError> {
    match update.send().await {
        Ok(_) => Ok(true),
        Err(error) => match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(false),
            _ => Err(failed("DynamoDB UpdateItem")(error)),
        },
    }
}

impl Deliveries for DynamoDbDeliveries {
    async fn delivered(
        &self,
        execution: &ExecutionArn,
        channel: &str,
    ) -> Result<Delivered, PortError> {
        let request = self
            .dynamo_db
            .get_item()
            .table_name(&self.table)
            .key("id", AttributeValue::S(id(execution, channel)));
        // An eventual read could miss what the try before has just written.
        let answer = request.consistent_read(true).send().await;
        let answer = answer.map_err(failed("DynamoDB GetItem"))?;
        Ok(answer.item.as_ref().map(delivered).unwrap_or_default())
    }

    async fn keep_delivery(
        &self,
        notice: &Notice,
        channel: &str,
        delivery: Delivery<'_>,
    ) -> Result<(), PortError> {
        let at = AttributeValue::S(notice.at.to_string());
        let (expression, kept) = match delivery {
            Delivery::Had => ("#kept = :at", HAD),
            Delivery::Opened(_) => ("#kept = :at, #shown = :at, #thread = :thread", HAD),
            Delivery::Shown => ("#kept = :at", SHOWN),
        };
        let mut update = self
            .set(notice, channel, expression)
            .expression_attribute_names("#kept", format!("{kept}{}", notice.id))
            .expression_attribute_values(":at", at);
        if let Delivery::Opened(thread) = delivery {
            update = update
                .expression_attribute_names("#thread", "thread")
                .expression_attribute_names("#shown", format!("{SHOWN}{}", notice.id))
                .expression_attribute_values(":thread", AttributeValue::S(thread.to_owned()));
        }
        make(update).await.map(drop)
    }

    async fn open_thread(&self, notice: &Notice, channel: &str) -> Result<bool, PortError> {
        let update = self
            .set(notice, channel, "#opens = :me")
            .condition_expression("attribute_not_exists(#opens) OR #opens = :me")
            .expression_attribute_names("#opens", "opens")
            .expression_attribute_values(":me", AttributeValue::S(notice.id.clone()));
        make(update).await
    }

    async fn leave_thread(&self, notice: &Notice, channel: &str) -> Result<(), PortError> {
        let update = self
            .update(notice, channel)
            .update_expression("REMOVE #opens")
            .condition_expression("#opens = :me AND attribute_not_exists(#thread)")
            .expression_attribute_names("#opens", "opens")
            .expression_attribute_names("#thread", "thread")
            .expression_attribute_values(":me", AttributeValue::S(notice.id.clone()));
        make(update).await.map(drop)
    }

    async fn show_in_thread(&self, notice: &Notice, channel: &str) -> Result<bool, PortError> {
        let at = notice.at.as_millisecond().to_string();
        let update = self
            .set(notice, channel, "#shows = :moment")
            .condition_expression("attribute_not_exists(#shows) OR #shows <= :moment")
            .expression_attribute_names("#shows", "shows")
            .expression_attribute_values(":moment", AttributeValue::N(at));
        make(update).await
    }
}

fn id(execution: &ExecutionArn, channel: &str) -> String {
    format!("delivery#{execution}#{channel}")
}

fn delivered(item: &HashMap<String, AttributeValue>) -> Delivered {
    let named = |prefix: &str| -> BTreeSet<String> {
        item.keys()
            .filter_map(|name| name.strip_prefix(prefix))
            .map(str::to_owned)
            .collect()
    };
    let thread = item.get("thread").and_then(|thread| thread.as_s().ok());
    Delivered {
        had: named(HAD),
        thread: thread.cloned(),
        shown: named(SHOWN),
    }
}
