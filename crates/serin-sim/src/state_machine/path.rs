//! Reference paths and payload templates, checked when the file is read.

use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};

/// `$` or `$.one.two`: a place in the state.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct ReferencePath(Vec<String>);

/// What a template may take from the context object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContextField {
    ExecutionId,
    ExecutionStartTime,
    StateEnteredTime,
    StateMachineId,
    TaskToken,
}

/// The context object of one state.
#[derive(Debug, Clone)]
pub(super) struct Context {
    pub(super) execution_id: String,
    pub(super) execution_start_time: String,
    pub(super) state_entered_time: String,
    pub(super) state_machine_id: String,
    /// Only a task that waits for it has one.
    pub(super) task_token: Option<String>,
}

/// The value of `Parameters`: JSON in which a key that ends with `.$` has a path, or an intrinsic function, as its value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Template {
    Literal(Value),
    Array(Vec<Template>),
    Object(Vec<(String, Template)>),
    State(ReferencePath),
    Context(ContextField),
    JsonToString(ReferencePath),
    /// A text with `{}` in the place of the task's token.
    FormatToken(ReferencePath),
}

/// A path that leads nowhere. On AWS it ends the execution.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing(pub(super) String);

impl ReferencePath {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let unknown = || format!("`{text}` is not a path of the form $.name.name");
        let rest = text.strip_prefix('$').ok_or_else(unknown)?;
        if rest.is_empty() {
            return Ok(Self::default());
        }
        let names = rest.strip_prefix('.').ok_or_else(unknown)?.split('.');
        let is_name = |name: &str| {
            !name.is_empty()
                && name
                    .chars()
                    .all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        };
        names
            .map(|name| {
                if is_name(name) {
                    Ok(name.to_owned())
                } else {
                    Err(unknown())
                }
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(super) fn get<'a>(&self, state: &'a Value) -> Result<&'a Value, Missing> {
        self.0
            .iter()
            .try_fold(state, |value, name| value.get(name))
            .ok_or_else(|| Missing(self.to_string()))
    }

    /// Puts `result` at this place of `state`, as `ResultPath` does. `None` when there is something there that is no object.
    pub(super) fn put(&self, mut state: Value, result: Value) -> Option<Value> {
        let mut place = &mut state;
        for name in &self.0 {
            place = place
                .as_object_mut()?
                .entry(name)
                .or_insert_with(|| Value::Object(Map::new()));
        }
        *place = result;
        Some(state)
    }
}

impl std::fmt::Display for ReferencePath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "$")?;
        self.0.iter().try_for_each(|name| write!(f, ".{name}"))
    }
}

impl<'de> Deserialize<'de> for ReferencePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl Context {
    fn token(&self) -> Result<&str, Missing> {
        let token = self.task_token.as_deref();
        token.ok_or_else(|| Missing("$$.Task.Token".to_owned()))
    }
}

impl ContextField {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "$$.Execution.Id" => Ok(Self::ExecutionId),
            "$$.Execution.StartTime" => Ok(Self::ExecutionStartTime),
            "$$.State.EnteredTime" => Ok(Self::StateEnteredTime),
            "$$.StateMachine.Id" => Ok(Self::StateMachineId),
            "$$.Task.Token" => Ok(Self::TaskToken),
            _ => Err(format!(
                "`{text}` is not a field of the context object that this interpreter knows"
            )),
        }
    }
}

impl Template {
    fn parse(value: Value) -> Result<Self, String> {
        match value {
            Value::Array(values) => values
                .into_iter()
                .map(Self::parse)
                .collect::<Result<_, _>>()
                .map(Self::Array),
            Value::Object(fields) => fields
                .into_iter()
                .map(Self::parse_field)
                .collect::<Result<_, _>>()
                .map(Self::Object),
            literal => Ok(Self::Literal(literal)),
        }
    }

    fn parse_field((name, value): (String, Value)) -> Result<(String, Self), String> {
        let Some(plain) = name.strip_suffix(".$") else {
            return Ok((name, Self::parse(value)?));
        };
        let Value::String(expression) = value else {
            return Err(format!(
                "`{name}` is not a text, but names that end with .$ have paths"
            ));
        };
        Ok((plain.to_owned(), Self::parse_expression(&expression)?))
    }

    fn parse_expression(expression: &str) -> Result<Self, String> {
        if expression.starts_with("$$") {
            ContextField::parse(expression).map(Self::Context)
        } else if expression.starts_with('$') {
            ReferencePath::parse(expression).map(Self::State)
        } else if let Some(argument) = expression
            .strip_prefix("States.JsonToString(")
            .and_then(|rest| rest.strip_suffix(')'))
        {
            ReferencePath::parse(argument).map(Self::JsonToString)
        } else if let Some(template) = expression
            .strip_prefix("States.Format(")
            .and_then(|rest| rest.strip_suffix(", $$.Task.Token)"))
        {
            ReferencePath::parse(template).map(Self::FormatToken)
        } else {
            Err(format!(
                "`{expression}` is neither a path nor an intrinsic function that this interpreter knows"
            ))
        }
    }

    pub(super) fn fill(&self, state: &Value, context: &Context) -> Result<Value, Missing> {
        Ok(match self {
            Self::Literal(value) => value.clone(),
            Self::Array(values) => Value::Array(
                values
                    .iter()
                    .map(|value| value.fill(state, context))
                    .collect::<Result<_, _>>()?,
            ),
            Self::Object(fields) => Value::Object(
                fields
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), value.fill(state, context)?)))
                    .collect::<Result<_, Missing>>()?,
            ),
            Self::State(path) => path.get(state)?.clone(),
            Self::Context(ContextField::ExecutionId) => context.execution_id.clone().into(),
            Self::Context(ContextField::ExecutionStartTime) => {
                context.execution_start_time.clone().into()
            }
            Self::Context(ContextField::StateEnteredTime) => {
                context.state_entered_time.clone().into()
            }
            Self::Context(ContextField::StateMachineId) => context.state_machine_id.clone().into(),
            Self::Context(ContextField::TaskToken) => context.token()?.into(),
            Self::JsonToString(path) => path.get(state)?.to_string().into(),
            Self::FormatToken(path) => {
                let template = path.get(state)?.as_str().unwrap_or_default();
                if template.matches("{}").count() != 1 {
                    return Err(Missing(format!("{path}, a text with one pair of braces")));
                }
                template.replace("{}", context.token()?).into()
            }
        })
    }
}

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
