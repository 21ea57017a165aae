//! The status page outside of CloudWatch: what a custom widget does with `cwdb-action`, done with links and a form.

use serde_json::{Value, json};

/// What an action of the page calls, in the order in which it is written.
const ACTION: &str = "<cwdb-action ";

/// The page as a browser shows it: each action that shows another page is a link to it, and each other one a button.
pub(crate) fn served(html: &str, theme: &str) -> String {
    let mut page = String::new();
    let mut rest = html;
    while let Some((before, action)) = rest.split_once(ACTION) {
        let Some((attributes, after)) = action.split_once('>') else {
            break;
        };
        let Some((parameters, after)) = after.split_once("</cwdb-action>") else {
            break;
        };
        // The element before it is what is clicked.
        let at = before.rfind("<a").unwrap_or(before.len());
        let (before, clicked) = before.split_at(at);
        let text = clicked
            .split_once('>')
            .map_or("", |(_, text)| text.trim_end_matches("</a>"));
        page += before;
        if attributes.contains("display=\"widget\"") {
            let read: Value = serde_json::from_str(&unescaped(parameters)).unwrap_or_default();
            let execution = read["execution"].as_str().unwrap_or_default();
            let link =
                format!("<a href=\"/status?theme={theme}&amp;execution={execution}\">{text}</a>");
            page.push_str(&link);
        } else {
            let button = format!("<button name=\"call\" value=\"{parameters}\">{text}</button>");
            page.push_str(&button);
        }
        rest = after;
    }
    page += rest;
    let page = page.replace("<form>", "<form method=\"post\" action=\"/status\">");
    format!(
        "<!doctype html><meta charset=\"utf-8\"><title>Serin</title><body style=\"margin: 0\">{page}</body>"
    )
}

/// What the function that draws the page gets for a query of the page's address.
pub(crate) fn drawn_with(query: &str) -> Value {
    let fields = fields(query);
    let mut input = json!({ "widgetContext": { "theme": theme_of(query), "width": 1000 } });
    if let Some(execution) = fields.get("execution").filter(|text| !text.is_empty()) {
        input["execution"] = json!(execution);
    }
    input
}

/// The theme in a query.
pub(crate) fn theme_of(query: &str) -> &'static str {
    match fields(query).get("theme").map(String::as_str) {
        Some("dark") => "dark",
        _ => "light",
    }
}

/// What the function that decides gets for a form that was sent.
pub(crate) fn decided_with(form: &str) -> Value {
    let fields = fields(form);
    let field = |name: &str| fields.get(name).cloned().unwrap_or_default();
    let mut input: Value = serde_json::from_str(&field("call")).unwrap_or_else(|_| json!({}));
    input["widgetContext"] = json!({ "forms": { "all": { "by": field("by") } } });
    input
}

/// The fields of a query or a form.
fn fields(text: &str) -> std::collections::BTreeMap<String, String> {
    reqwest::Url::parse(&format!("http://local/?{text}"))
        .map(|url| url.query_pairs().into_owned().collect())
        .unwrap_or_default()
}

fn unescaped(text: &str) -> String {
    [
        ("&quot;", "\""),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&amp;", "&"),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (escaped, plain)| {
        text.replace(escaped, plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_becomes_a_link_or_a_button() {
        let html = r#"<p><a>checkout</a><cwdb-action action="call" display="widget" endpoint="e">{&quot;execution&quot;:&quot;arn:x&quot;}</cwdb-action></p><form><input name="by"><a class="danger">Roll back now</a><cwdb-action action="call" display="popup" endpoint="e">{&quot;decision&quot;:&quot;rollBack&quot;}</cwdb-action></form>"#;
        let page = served(html, "dark");
        assert!(
            page.contains(
                r#"<p><a href="/status?theme=dark&amp;execution=arn:x">checkout</a></p>"#
            ),
            "{page}"
        );
        assert!(
            page.contains(r#"<form method="post" action="/status"><input name="by"><button name="call" value="{&quot;decision&quot;:&quot;rollBack&quot;}">Roll back now</button></form>"#),
            "{page}"
        );
        assert!(!page.contains("cwdb"), "{page}");
    }

    #[test]
    fn the_functions_get_what_cloudwatch_gives_them() {
        let drawn = drawn_with("theme=dark&execution=arn%3Ax");
        assert_eq!(drawn["execution"], "arn:x");
        assert_eq!(drawn["widgetContext"]["theme"], "dark");
        assert!(drawn_with("execution=")["execution"].is_null());
        let form =
            "by=Ada+L&call=%7B%22execution%22%3A%22arn%3Ax%22%2C%22decision%22%3A%22resume%22%7D";
        let decided = decided_with(form);
        assert_eq!(decided["decision"], "resume");
        assert_eq!(decided["widgetContext"]["forms"]["all"]["by"], "Ada L");
    }
}
