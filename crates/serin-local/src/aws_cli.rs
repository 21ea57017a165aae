//! The commands that Serin prints for a person, carried out as the AWS CLI would. Only those of Step Functions are known.

use serde_json::{Map, Value, json};

use crate::moto::{Moto, MotoError, Service};

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A shell or the AWS CLI would not understand it, or it is none of Step Functions.
    #[error("cannot carry out: {0}")]
    NotUnderstood(String),
    /// AWS would have refused it.
    #[error(transparent)]
    Refused(#[from] MotoError),
}

/// Carries out a command.
pub(crate) async fn run(api: &Moto, command: &str) -> Result<Value, CommandError> {
    let (operation, request) =
        read(command).ok_or_else(|| CommandError::NotUnderstood(command.to_owned()))?;
    Ok(api
        .call(Service::StepFunctions, &operation, &request)
        .await?)
}

/// The operation and its request: `send-task-success --task-token t` as `SendTaskSuccess` and `{"taskToken": "t"}`.
fn read(command: &str) -> Option<(String, Value)> {
    let words = words(command)?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ["aws", "stepfunctions", operation, options @ ..] = words.as_slice() else {
        return None;
    };
    let mut request = Map::new();
    for option in options.chunks(2) {
        let [name, value] = option else { return None };
        // The one option that is not named after its member.
        let name = match name.strip_prefix("--")? {
            "task-output" => "Output".to_owned(),
            name => pascal_case(name),
        };
        let (first, rest) = name.split_at_checked(1)?;
        request.insert(first.to_lowercase() + rest, json!(value));
    }
    Some((pascal_case(operation), Value::Object(request)))
}

/// The words of a command as a shell reads them, which knows single quotes and else only blanks.
fn words(command: &str) -> Option<Vec<String>> {
    let mut words: Vec<String> = Vec::new();
    let (mut quoted, mut within) = (false, false);
    for letter in command.chars() {
        match letter {
            '\'' => {
                quoted = !quoted;
                if !within {
                    words.push(String::new());
                }
                within = true;
            }
            // What means more to a shell must be quoted.
            '"' | '\\' | '$' | '`' | '<' | '>' | '|' | '&' | ';' | '*' | '(' | ')' if !quoted => {
                return None;
            }
            blank if blank.is_whitespace() && !quoted => within = false,
            letter => {
                if !within {
                    words.push(String::new());
                }
                within = true;
                words.last_mut()?.push(letter);
            }
        }
    }
    (!quoted).then_some(words)
}

/// `send-task-success` as `SendTaskSuccess`.
pub(crate) fn pascal_case(name: &str) -> String {
    name.split('-')
        .map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            first.to_uppercase() + rest
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::read;

    #[test]
    fn a_printed_command_is_read_as_a_shell_and_the_aws_cli_read_it() {
        let command = r#"aws stepfunctions send-task-success --task-token AAA+/= --task-output '"roll back"'"#;
        let (operation, request) = read(command).unwrap();
        assert_eq!(operation, "SendTaskSuccess");
        assert_eq!(
            request,
            json!({"taskToken": "AAA+/=", "output": "\"roll back\""})
        );
    }

    #[test]
    fn what_a_shell_would_take_for_something_else_is_not_carried_out() {
        for command in [
            r#"aws stepfunctions send-task-success --task-output "resume""#,
            "aws stepfunctions start-execution --input '{",
            "aws stepfunctions start-execution --input",
            "aws stepfunctions stop-execution --cause <why>",
            "aws ecs delete-service --service checkout",
        ] {
            assert_eq!(read(command), None, "{command}");
        }
    }
}
