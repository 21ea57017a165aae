//! How a person's decision reaches a deployment: by the task token of its question, or by the end of its execution.
//!
//! The token of a frozen deployment stands in the ledger's item `question#<execution>`, which the role of whoever shows
//! deployments may not read. What a running one is to do stands in `order#<execution>`, and its checks read it there.

use aws_sdk_dynamodb::types::AttributeValue;
use serin::history::Wish;
use serin::notice::NoticePhase;
use serin::ports::Decisions;
use serin::request::{Decision, LONGEST_DEADLINE_SECONDS};
use serin::{ExecutionArn, Notice, PortError};

use crate::error::{failed, has_code, refused};
use crate::step_functions;

/// How long a question is kept beyond the time that it waits, and an order beyond the longest deployment, in seconds.
const KEPT_SECONDS: i64 = 24 * 3600;

/// Answers task tokens, stops executions and starts others.
#[derive(Debug, Clone)]
pub struct StepFunctionsDecisions {
    dynamo_db: aws_sdk_dynamodb::Client,
    step_functions: aws_sdk_sfn::Client,
    table: String,
}

impl StepFunctionsDecisions {
    pub(crate) fn new(
        dynamo_db: aws_sdk_dynamodb::Client,
        step_functions: aws_sdk_sfn::Client,
        table: impl Into<String>,
    ) -> Self {
        Self {
            dynamo_db,
            step_functions,
            table: table.into(),
        }
    }

    async fn token(&self, execution: &ExecutionArn) -> Result<Option<String>, PortError> {
        let request = self
            .dynamo_db
            .get_item()
            .table_name(&self.table)
            .key("id", AttributeValue::S(question_id(execution)))
            .consistent_read(true);
        let answer = request.send().await.map_err(failed("DynamoDB GetItem"))?;
        let item = answer.item.unwrap_or_default();
        let token = item.get("token").and_then(|token| token.as_s().ok());
        Ok(token.cloned())
    }
}

impl Decisions for StepFunctionsDecisions {
    async fn keep_question(&self, question: &Notice) -> Result<(), PortError> {
        const CALL: &str = "DynamoDB PutItem";
        let NoticePhase::Frozen {
            waits_for_seconds,
            token: Some(token),
            ..
        } = &question.phase
        else {
            return Err(refused(
                CALL,
                "the notice is no question with a token".to_owned(),
            ));
        };
        let expires = question.at.as_second() + i64::from(*waits_for_seconds) + KEPT_SECONDS;
        let request = self
            .dynamo_db
            .put_item()
            .table_name(&self.table)
            .item("id", AttributeValue::S(question_id(&question.execution)))
            .item("token", AttributeValue::S(token.clone()))
            .item("expiresAt", AttributeValue::N(expires.to_string()));
        request.send().await.map(drop).map_err(failed(CALL))
    }

    async fn answer(
        &self,
        execution: &ExecutionArn,
        decision: Decision,
    ) -> Result<bool, PortError> {
        let Some(token) = self.token(execution).await? else {
            return Ok(false);
        };
        let request = self
            .step_functions
            .send_task_success()
            .task_token(token)
            .output(serde_json::json!(decision).to_string());
        match request.send().await {
            // It was answered before, has run out of time, or its execution has ended.
            Err(error)
                if has_code(&error, "TaskTimedOut") || has_code(&error, "TaskDoesNotExist") =>
            {
                Ok(false)
            }
            answer => answer
                .map(|_| true)
                .map_err(failed("Step Functions SendTaskSuccess")),
        }
    }

    async fn leave_order(&self, execution: &ExecutionArn, wish: &Wish) -> Result<(), PortError> {
        let text = serde_json::to_string(wish).expect("texts can be written as JSON");
        let expires = wish.at.as_second() + i64::from(LONGEST_DEADLINE_SECONDS) + KEPT_SECONDS;
        let request = self
            .dynamo_db
            .put_item()
            .table_name(&self.table)
            .item("id", AttributeValue::S(order_id(execution)))
            .item("wish", AttributeValue::S(text))
            .item("expiresAt", AttributeValue::N(expires.to_string()));
        let answer = request.send().await;
        answer.map(drop).map_err(failed("DynamoDB PutItem"))
    }

    async fn stop(&self, execution: &ExecutionArn, why: &str) -> Result<(), PortError> {
        step_functions::stop(&self.step_functions, execution, "RollBackWished", why).await
    }

    async fn roll_back(&self, execution: &ExecutionArn, name: &str) -> Result<(), PortError> {
        let input = serde_json::json!({ "rollBack": execution });
        let machine = execution.state_machine();
        step_functions::start(&self.step_functions, &machine, name, &input).await
    }
}

/// Where what a running deployment is to do stands.
pub(crate) fn order_id(execution: &ExecutionArn) -> String {
    format!("order#{execution}")
}

fn question_id(execution: &ExecutionArn) -> String {
    format!("question#{execution}")
}
