//! A message as a mail in plain text.

use crate::message::Message;

/// The longest subject that SNS takes.
const SUBJECT: usize = 100;

/// The subject and the text.
pub(crate) fn mail(message: &Message) -> (String, String) {
    let mut paragraphs = vec![message.headline.clone(), message.sentence.clone()];
    let facts = message.facts.iter();
    let facts: Vec<_> = facts
        .map(|(name, fact)| format!("{name}: {fact}"))
        .collect();
    paragraphs.push(facts.join("\n"));
    if !message.evidence.is_empty() {
        paragraphs.push(message.evidence.join("\n"));
    }
    let commands = message.commands.iter();
    paragraphs.extend(commands.map(|(what, command)| format!("{what}\n    {command}")));
    paragraphs.push(message.link.clone());
    let text = paragraphs.join("\n\n") + "\n";
    (subject(&message.headline), text)
}

/// In ASCII and on one line, as SNS wants it.
fn subject(headline: &str) -> String {
    let plain = |letter: char| match letter {
        ' '..='~' => letter,
        _ => '?',
    };
    let subject = format!("Serin: {headline}");
    subject.chars().map(plain).take(SUBJECT).collect()
}
