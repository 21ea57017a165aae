//! The list of running and recent deployments.

use maud::{Markup, html};
use serde_json::json;
use serin::Ending;
use serin::history::Summary;
use serin::ports::Phase;

use crate::one::{Badge, moment};
use crate::{Calls, link};

/// The page.
pub(crate) fn page(summaries: &[Summary], calls: Calls) -> Markup {
    let is_over = |summary: &&Summary| {
        summary.phase == Phase::Ended && summary.ending != Some(Ending::NeedsAttention)
    };
    let (over, running): (Vec<_>, Vec<_>) = summaries.iter().partition(is_over);
    html! {
        h1 { "Deployments" }
        h2 { "Running, or waiting for a person" }
        (table(&running, calls, "No deployment is running."))
        h2 { "Recent" }
        (table(&over, calls, "No deployment has ended yet."))
    }
}

fn table(summaries: &[&Summary], calls: Calls, none: &str) -> Markup {
    if summaries.is_empty() {
        return html! { p.quiet { (none) } };
    }
    html! {
        table {
            thead { tr { th { "Service" } th { "New version" } th { "Began" } th { "State" } } }
            tbody {
                @for summary in summaries {
                    tr {
                        td { (link(calls, &summary.service, &json!({ "execution": summary.execution }))) }
                        td { (summary.version) }
                        td.time { (moment(summary.started_at)) }
                        td { (Badge::of(summary.phase, summary.ending, false)) }
                    }
                }
            }
        }
    }
}
