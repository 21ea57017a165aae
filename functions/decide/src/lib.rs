//! Carries the decision of a person to a deployment: roll back, resume or promote.
//!
//! A button of the dashboard calls it with the credentials of whoever looks at the dashboard, so IAM says who may: whoever may
//! invoke this function. It does not learn who that is. It keeps the name that the person gives with the id of the request, under
//! which `CloudTrail` has the identity.
//!
//! A rule hands it the question of every frozen deployment, whose token it keeps for the answer.

use jiff::Timestamp;
use maud::html;
use serde::Deserialize;
use serin::history::Wish;
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
    decision: Option<Decision>,
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
    let (Some(execution), Some(decision)) = (input.execution, input.decision) else {
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
        decision,
        came_of_it: "it is not known what came of it".to_owned(),
    };
    // Before anything is done: who did it must not be lost with the answer.
    history.keep_wish(&execution, &wish).await?;
    wish.came_of_it = carry_out(ledger, decisions, &execution, &wish).await?;
    tracing::info!(%execution, %decision, by = wish.by, came_of_it = wish.came_of_it, "decided");
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
    let decision = wish.decision;
    if decisions.answer(execution, decision).await? {
        return Ok(match decision {
            Decision::RollBack => "The frozen deployment is rolled back",
            Decision::Resume => "The frozen deployment begins its step anew",
            Decision::Promote => "The frozen deployment promotes the new version",
        }
        .to_owned());
    }
    if decision != Decision::RollBack {
        return Ok("Nothing was done: the deployment asks nobody now".to_owned());
    }
    let Some(record) = ledger.find(execution).await? else {
        return Ok("Nothing was done: the ledger knows no such deployment".to_owned());
    };
    if record.ending == Some(Ending::NeedsAttention) {
        let name = format!(
            "decided-{}",
            wish.request_id.chars().take(60).collect::<String>()
        );
        decisions.roll_back(execution, &name).await?;
        return Ok(format!(
            "The execution {name} was started, which rolls back what is left"
        ));
    }
    Ok(match record.phase {
        Phase::Running => {
            // Its end starts the recovery, which forbids the execution's functions to go on before it moves any traffic. It is
            // not forbidden here: an execution that could not be stopped then would look as if it were being rolled back.
            let why = format!("{} decided to roll back (request {})", wish.by, wish.request_id);
            decisions.stop(execution, &why).await?;
            "The execution was stopped, and the recovery rolls the deployment back".to_owned()
        }
        Phase::RollingBack => "Nothing was done: it is being rolled back already".to_owned(),
        Phase::Promoting | Phase::PromotionStopped | Phase::CleaningUp => {
            "Nothing was done: stable is being updated, and only the deployment itself can undo that safely".to_owned()
        }
        Phase::Ended => "Nothing was done: the deployment is over".to_owned(),
    })
}

/// A sentence as the dashboard shows it.
fn said(sentence: &str) -> String {
    html! { p style="font-family: sans-serif" { (sentence) "." } }.into_string()
}

#[cfg(test)]
mod tests;
