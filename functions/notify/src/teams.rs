//! A message as an Adaptive Card for a webhook of Workflows in Microsoft Teams. Every text is a run of a `RichTextBlock`, which
//! knows no Markdown: what comes from outside shows as it is.

use serde_json::{Value, json};
use serin::verdict::cut;

use crate::message::{Mark, Message};

/// A card may have 28 KB (Teams, "Format cards"); a text in it so many characters.
const LONGEST: usize = 3_000;
/// How large the card's texts may be together, in bytes of JSON.
const CARD: usize = 24_000;

/// A message.
pub(crate) fn message(message: &Message) -> Value {
    let colour = match message.mark {
        Mark::Plain => "Default",
        Mark::Good => "Good",
        Mark::Bad => "Attention",
        Mark::Person => "Warning",
    };
    let mut body = vec![
        paragraph(&[json!({
            "type": "TextRun", "text": cut(&message.headline, LONGEST),
            "size": "Large", "weight": "Bolder", "color": colour,
        })]),
        paragraph(&[run(&message.sentence)]),
    ];
    for (name, fact) in &message.facts {
        let name = json!({"type": "TextRun", "text": format!("{name}: "), "weight": "Bolder"});
        body.push(paragraph(&[name, run(fact)]));
    }
    for line in &message.evidence {
        body.push(paragraph(&[run(line)]));
    }
    for (what, command) in &message.commands {
        body.push(paragraph(&[run(what)]));
        if !command.is_empty() {
            let command = cut(command, LONGEST);
            let command = json!({"type": "TextRun", "text": command, "fontType": "Monospace"});
            body.push(paragraph(&[command]));
        }
    }
    while Value::from(body.clone()).to_string().len() > CARD {
        body.pop();
    }
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": null,
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "msteams": {"width": "Full"},
                "body": body,
                "actions": [{
                    "type": "Action.OpenUrl",
                    "title": "Execution in the console",
                    "url": message.link,
                }],
            },
        }],
    })
}

fn paragraph(runs: &[Value]) -> Value {
    json!({"type": "RichTextBlock", "inlines": runs})
}

fn run(text: &str) -> Value {
    json!({"type": "TextRun", "text": cut(text, LONGEST)})
}
