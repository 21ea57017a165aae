//! What a step's call is followed by: the notice that it calls for, told and kept.

use lambda_runtime::{Diagnostic, tracing};
use serde_json::Value;
use serin::notice::{self, NoticePhase};
use serin::ports::{History, Ledger, Notices};

use crate::adapters::Adapters;

/// Tells what is to be told of a step's call, and keeps it in the deployment's history. What fails here is logged and stops
/// nothing: a deployment goes on without its notices.
pub async fn tell(
    adapters: &Adapters,
    step: &str,
    payload: &Value,
    answer: Result<&Value, &Diagnostic>,
) {
    let answer = answer.map_err(|error| (error.error_type.as_str(), error.error_message.as_str()));
    let Some(notice) = notice::notice(step, payload, answer) else {
        return;
    };
    let kept = async {
        if let Some(request) = notice::request(step, payload) {
            let ledger = &adapters.ledger;
            let kept = ledger.keep_request(&notice.execution, request, notice.at);
            if let Err(error) = kept.await {
                tracing::warn!(%error, "the request is not kept");
            }
        }
    };
    let noted = async {
        if let Err(error) = adapters.ledger.keep_notice(&notice).await {
            tracing::warn!(%error, notice = notice.id, "the notice is not kept");
        }
    };
    let told = async {
        // The state machine tells this itself, with the token that answers it.
        if matches!(notice.phase, NoticePhase::Frozen { .. }) {
            return;
        }
        if let Err(error) = adapters.notices.tell(&notice).await {
            tracing::warn!(%error, notice = notice.id, "the notice is not told");
        }
    };
    // At once: each may take seconds when its service hangs, and the step's own answer waits for them.
    tokio::join!(kept, noted, told);
}
