//! Carries the decision of a person to a deployment: roll back, freeze, resume or promote.
//!
//! A button of the dashboard calls it with the credentials of whoever looks at the dashboard, so IAM says who may: whoever may
//! invoke this function. It does not learn who that is. It keeps the name that the person gives with the id of the request, under
//! which `CloudTrail` has the identity.
//!
//! A rule hands it the question of every frozen deployment, whose token it keeps for the answer.

use jiff::Timestamp;
use maud::html;
use serde::Deserialize;
use serin::history::{Order, Wish};
use serin::ports::{Decisions, History, Ledger, Phase};
use serin::request::Decision;
use serin::verdict::cut;
use serin::{Ending, ExecutionArn, Notice, step_error_from_port_error};

/// Why a decision was not carried to the deployment.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
pub enum DecideError {
    /// The call is neither a question nor a decision.
    #[error("the call names no execution and no decision")]
    NothingDecided,
    /// Too many calls.
    #[error("{0}")]
    AwsThrottled(String),
    /// No answer.
    #[error("{0}")]
    AwsUnavailable(String),
    /// The function's role lacks a permission.
    #[error("{0}")]
    AwsDenied(String),
    /// A call was understood and refused.
    #[error("{0}")]
    AwsRefused(String),
}

step_error_from_port_error!(DecideError);

/// What the function is called with: by a rule with the question of a frozen deployment, by a button with a decision.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The notice in the event of the rule.
    #[serde(default)]
    detail: Option<Notice>,
    /// The execution that the button is for.
    #[serde(default)]
    execution: Option<ExecutionArn>,
    /// What is decided.
    #[serde(default)]
    decision: Option<Order>,
    #[serde(default)]
    widget_context: WidgetContext,
    invocation: Invocation,
}

/// What CloudWatch adds to the call of a button, as far as it matters here.
#[derive(Debug, Clone, Default, Deserialize)]
struct WidgetContext {
    #[serde(default)]
    forms: Forms,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Forms {
    #[serde(default)]
    all: Fields,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Fields {
    #[serde(default)]
    by: String,
}

/// The invocation that brought the call.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invocation {
    request_id: String,
    at: Timestamp,
}

/// How much of a person's name is kept, in characters.
const LONGEST_NAME: usize = 100;

/// Keeps a question, or carries a decision to its deployment; gives what came of it as HTML.
///
/// # Errors
/// [`DecideError`]; whoever decided may decide again.
pub async fn decide(
    ledger: &impl Ledger,
    history: &impl History,
    decisions: &impl Decisions,
    input: Input,
) -> Result<String, DecideError> {
    if let Some(question) = &input.detail {
        decisions.keep_question(question).await?;
        tracing::info!(execution = %question.execution, question = question.id, "kept");
        return Ok(String::new());
    }
    let (Some(execution), Some(order)) = (input.execution, input.decision) else {
        return Err(DecideError::NothingDecided);
    };
    let by = cut(input.widget_context.forms.all.by.trim(), LONGEST_NAME);
    if by.is_empty() {
        return Ok(said(
            "Nothing was done: say who you are in the field beside the buttons",
        ));
    }
    let mut wish = Wish {
        request_id: input.invocation.request_id,
        at: input.invocation.at,
        by,
        order,
        came_of_it: "it is not known what came of it".to_owned(),
    };
    // Before anything is done: who did it must not be lost with the answer.
    history.keep_wish(&execution, &wish).await?;
    wish.came_of_it = carry_out(ledger, decisions, &execution, &wish).await?;
    tracing::info!(%execution, %order, by = wish.by, came_of_it = wish.came_of_it, "decided");
    history.keep_wish(&execution, &wish).await?;
    Ok(said(&wish.came_of_it))
}

/// Carries the decision out; gives the sentence that says what came of it.
async fn carry_out(
    ledger: &impl Ledger,
    decisions: &impl Decisions,
    execution: &ExecutionArn,
    wish: &Wish,
) -> Result<String, DecideError> {
    let record = ledger.find(execution).await?;
    let is_on_trial = matches!(&record, Some(record) if record.phase == Phase::Running && record.ending.is_none());
    if is_on_trial && wish.order != Order::RollBack {
        // Also before a question is answered: what was wished earlier must not come after it.
        decisions.leave_order(execution, wish).await?;
    }
    if let Some(answer) = wish.order.as_answer()
        && decisions.answer(execution, answer).await?
    {
        return Ok(match answer {
            Decision::RollBack => "The frozen deployment is rolled back",
            Decision::Resume => "The frozen deployment begins its step anew",
            Decision::Promote => "The frozen deployment promotes the new version",
        }
        .to_owned());
    }
    let Some(record) = record else {
        return Ok("Nothing was done: the ledger knows no such deployment".to_owned());
    };
    if record.ending == Some(Ending::NeedsAttention) && wish.order == Order::RollBack {
        let name = format!(
            "decided-{}",
            wish.request_id.chars().take(60).collect::<String>()
        );
        decisions.roll_back(execution, &name).await?;
        return Ok(format!(
            "The execution {name} was started, which rolls back what is left"
        ));
    }
    if record.ending == Some(Ending::NeedsAttention) {
        return Ok("Nothing was done: the deployment can only be rolled back".to_owned());
    }
    Ok(match (record.phase, wish.order) {
        (Phase::Running, Order::RollBack) => {
            // Its end starts the recovery, which forbids the execution's functions to go on before it moves any traffic. It is
            // not forbidden here: an execution that could not be stopped then would look as if it were being rolled back.
            let why = format!("{} decided to roll back (request {})", wish.by, wish.request_id);
            decisions.stop(execution, &why).await?;
            "The execution was stopped, and the recovery rolls the deployment back"
        }
        (Phase::Running, Order::Freeze) => {
            "The deployment freezes after its next check, unless that finds a reason to roll it back"
        }
        (Phase::Running, Order::Promote) => {
            "The new version is promoted after the next check that can have data, unless that finds a reason not to"
        }
        (Phase::Running, Order::Resume) => {
            "The deployment asks nobody now; what was wished of it before and is not done yet is taken back"
        }
        (Phase::RollingBack, _) => "Nothing was done: it is being rolled back already",
        (Phase::Promoting | Phase::PromotionStopped | Phase::CleaningUp, _) => {
            "Nothing was done: stable is being updated, and only the deployment itself can undo that safely"
        }
        (Phase::Ended, _) => "Nothing was done: the deployment is over",
    }
    .to_owned())
}

/// A sentence as the dashboard shows it.
fn said(sentence: &str) -> String {
    html! { p style="font-family: sans-serif" { (sentence) "." } }.into_string()
}

#[cfg(test)]
mod tests;
