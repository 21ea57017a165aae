//! Draws the page of running and recent deployments, and of one of them, for a custom widget of a CloudWatch dashboard: HTML with
//! styles and SVG, and no script, which CloudWatch would take out.
//!
//! It only reads. What its buttons do is another function's, which fewer people may invoke.

mod chart;
mod console;
mod list;
mod one;
mod theme;

use maud::{Markup, PreEscaped, html};
use serde::Deserialize;
use serin::ports::History;
use serin::{ExecutionArn, step_error_from_port_error};

use crate::theme::{Theme, style};

/// Why there is no page.
#[derive(Debug, thiserror::Error, strum::IntoStaticStr, strum::VariantNames)]
pub enum StatusError {
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

step_error_from_port_error!(StatusError);

/// What a dashboard calls the function with.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// Whether it asks what the widget is, and for nothing else.
    #[serde(default)]
    describe: bool,
    /// The deployment that is looked at; without it the list is.
    #[serde(default)]
    execution: Option<ExecutionArn>,
    #[serde(default)]
    widget_context: WidgetContext,
}

/// What CloudWatch says of the widget, as far as it matters here.
#[derive(Debug, Clone, Default, Deserialize)]
struct WidgetContext {
    #[serde(default)]
    theme: Theme,
    #[serde(default)]
    width: Option<f64>,
}

/// The functions that the page's links and buttons call, by their ARNs.
#[derive(Debug, Clone, Copy)]
pub struct Calls<'a> {
    /// This one.
    pub status: &'a str,
    /// The one that carries a decision to a deployment.
    pub decide: &'a str,
}

/// What CloudWatch shows of the widget while it is being added.
const DESCRIPTION: &str = "\
## Serin

Running and recent canary deployments; one of them with its split over time, its checks and its resources.

| parameter | meaning |
|---|---|
| `execution` | the ARN of an execution: show this deployment instead of the list |
";

/// How many deployments the list has.
const LISTED: u16 = 25;
/// The width of a widget that does not say it, and the widths within which the page is drawn, in pixels.
const WIDTH: f64 = 900.0;
const WIDTHS: (f64, f64) = (280.0, 2400.0);

/// Draws the page; gives it as HTML, and the description as Markdown.
///
/// # Errors
/// [`StatusError`]; the dashboard shows it in the page's place.
pub async fn status(
    history: &impl History,
    calls: Calls<'_>,
    input: Input,
) -> Result<String, StatusError> {
    if input.describe {
        return Ok(DESCRIPTION.to_owned());
    }
    let theme = input.widget_context.theme;
    let (narrowest, widest) = WIDTHS;
    let width = input.widget_context.width.unwrap_or(WIDTH);
    let width = width.clamp(narrowest, widest);
    let page = match &input.execution {
        None => list::page(&history.recent(LISTED).await?, calls),
        Some(execution) => one::page(&history.story(execution).await?, calls, theme, width),
    };
    Ok(whole(&page, theme).into_string())
}

fn whole(page: &Markup, theme: Theme) -> Markup {
    html! {
        style { (PreEscaped(style(theme))) }
        div.serin { (page) }
    }
}

/// A link that calls this function again and shows the answer in the widget's place.
fn link(calls: Calls, text: &str, parameters: &serde_json::Value) -> Markup {
    html! {
        a { (text) }
        cwdb-action action="call" display="widget" endpoint=(calls.status) { (parameters) }
    }
}

#[cfg(test)]
mod tests;
