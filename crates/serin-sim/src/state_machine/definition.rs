//! The definition, read strictly: what is not known here is an error, as a spelling mistake is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::execution::Jitter;
use super::path::{ReferencePath, Template};

/// A state machine that can be run.
#[derive(Debug, Clone)]
pub struct StateMachine {
    pub(super) definition: Arc<Definition>,
    pub(super) jitter: Jitter,
}

/// Why a file is not a state machine: every fault that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError(pub Vec<String>);

impl std::fmt::Display for ParseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.join("\n"))
    }
}

impl std::error::Error for ParseError {}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Definition {
    #[serde(rename = "Comment")]
    _comment: Option<String>,
    pub(super) start_at: String,
    /// Without it AWS lets an execution live for a year; ours must say how long.
    pub(super) timeout_seconds: u64,
    pub(super) states: States,
}

#[derive(Debug, Clone)]
pub(super) struct States(BTreeMap<String, State>);

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "Type", deny_unknown_fields)]
pub(super) enum State {
    #[serde(rename_all = "PascalCase")]
    Task {
        #[serde(rename = "Comment")]
        _comment: Option<String>,
        resource: String,
        parameters: Option<Template>,
        #[serde(default)]
        result_path: ReferencePath,
        timeout_seconds: Option<u64>,
        timeout_seconds_path: Option<ReferencePath>,
        #[serde(default)]
        retry: Vec<Retrier>,
        #[serde(default)]
        catch: Vec<Catcher>,
        next: String,
    },
    #[serde(rename_all = "PascalCase")]
    Choice {
        #[serde(rename = "Comment")]
        _comment: Option<String>,
        choices: Vec<Rule>,
        default: Option<String>,
    },
    #[serde(rename_all = "PascalCase")]
    Wait {
        #[serde(rename = "Comment")]
        _comment: Option<String>,
        seconds: Option<u64>,
        seconds_path: Option<ReferencePath>,
        next: String,
    },
    #[serde(rename_all = "PascalCase")]
    Pass {
        #[serde(rename = "Comment")]
        _comment: Option<String>,
        #[serde(default)]
        input_path: ReferencePath,
        parameters: Option<Template>,
        #[serde(default)]
        result_path: ReferencePath,
        next: String,
    },
    #[serde(rename_all = "PascalCase")]
    Succeed {
        #[serde(rename = "Comment")]
        _comment: Option<String>,
    },
    #[serde(rename_all = "PascalCase")]
    Fail {
        #[serde(rename = "Comment")]
        _comment: Option<String>,
        error: Option<String>,
        error_path: Option<ReferencePath>,
        cause: Option<String>,
        cause_path: Option<ReferencePath>,
    },
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Retrier {
    pub(super) error_equals: Vec<String>,
    #[serde(default = "one")]
    pub(super) interval_seconds: u32,
    #[serde(default = "two")]
    pub(super) backoff_rate: f64,
    #[serde(default = "three")]
    pub(super) max_attempts: u32,
    pub(super) max_delay_seconds: Option<u32>,
    #[serde(default)]
    pub(super) jitter_strategy: JitterStrategy,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum JitterStrategy {
    Full,
    #[default]
    None,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Catcher {
    pub(super) error_equals: Vec<String>,
    #[serde(default)]
    pub(super) result_path: ReferencePath,
    pub(super) next: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) variable: ReferencePath,
    pub(super) boolean_equals: Option<bool>,
    pub(super) string_equals: Option<String>,
    pub(super) is_present: Option<bool>,
    pub(super) next: String,
}

/// The one integration that this interpreter knows: an event, and the wait for whoever answers it.
pub(super) const ASK: &str = "arn:aws:states:::events:putEvents.waitForTaskToken";

/// The States Language's own defaults.
fn one() -> u32 {
    1
}

fn two() -> f64 {
    2.0
}

fn three() -> u32 {
    3
}

impl StateMachine {
    /// Reads a definition, with each `${Name}` replaced as SAM's `DefinitionSubstitutions` do.
    ///
    /// # Errors
    ///
    /// Every fault: a name without a substitution, a field or state type that this interpreter does not know, a transition
    /// to a state that does not exist, a state that cannot be reached.
    pub fn parse(text: &str, substitutions: &BTreeMap<String, String>) -> Result<Self, ParseError> {
        let definition: Definition = serde_json::from_str(&substitute(text, substitutions)?)
            .map_err(|error| ParseError(vec![error.to_string()]))?;
        let faults = definition.faults();
        if faults.is_empty() {
            Ok(Self {
                definition: Arc::new(definition),
                jitter: Jitter::Longest,
            })
        } else {
            Err(ParseError(faults))
        }
    }

    /// The same state machine, with other delays before its retries.
    #[must_use]
    pub fn with_jitter(self, jitter: Jitter) -> Self {
        Self { jitter, ..self }
    }
}

fn substitute(text: &str, substitutions: &BTreeMap<String, String>) -> Result<String, ParseError> {
    let mut pieces = text.split("${");
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    let mut faults = Vec::new();
    for piece in pieces {
        match piece
            .split_once('}')
            .map(|(name, rest)| (name, substitutions.get(name), rest))
        {
            Some((_, Some(value), rest)) => whole.extend([value, rest]),
            Some((name, None, _)) => {
                faults.push(format!("there is no substitution for ${{{name}}}"));
            }
            None => faults.push("a ${ has no closing brace".to_owned()),
        }
    }
    if faults.is_empty() {
        Ok(whole)
    } else {
        Err(ParseError(faults))
    }
}

impl Definition {
    fn faults(&self) -> Vec<String> {
        let mut faults: Vec<_> = self
            .states
            .0
            .iter()
            .flat_map(|(name, state)| {
                state
                    .faults()
                    .into_iter()
                    .map(move |fault| format!("{name}: {fault}"))
            })
            .collect();
        let mut reached = BTreeSet::new();
        let mut to_visit = vec![("StartAt", self.start_at.as_str())];
        while let Some((from, name)) = to_visit.pop() {
            match self.states.0.get_key_value(name) {
                Some((name, state)) if reached.insert(name) => {
                    to_visit.extend(state.nexts().into_iter().map(|next| (name.as_str(), next)));
                }
                Some(_) => {}
                None => faults.push(format!("{from}: there is no state `{name}`")),
            }
        }
        faults.extend(
            self.states
                .0
                .keys()
                .filter(|name| !reached.contains(name))
                .map(|name| format!("{name}: cannot be reached")),
        );
        faults
    }
}

impl States {
    pub(super) fn get(&self, name: &str) -> &State {
        self.0
            .get(name)
            .expect("every transition was checked when the file was read")
    }
}

impl<'de> Deserialize<'de> for States {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = States;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "states by name")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<States, A::Error> {
                let mut states = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    // Read as a value first, so that a fault says in which state it is.
                    let value: serde_json::Value = map.next_value()?;
                    let state = serde_json::from_value(value)
                        .map_err(|error| A::Error::custom(format!("{name}: {error}")))?;
                    if states.insert(name.clone(), state).is_some() {
                        return Err(A::Error::custom(format!(
                            "{name}: two states have this name"
                        )));
                    }
                }
                Ok(States(states))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

impl State {
    fn nexts(&self) -> Vec<&str> {
        match self {
            Self::Task { catch, next, .. } => catch
                .iter()
                .map(|catcher| catcher.next.as_str())
                .chain([next.as_str()])
                .collect(),
            Self::Choice {
                choices, default, ..
            } => choices
                .iter()
                .map(|rule| rule.next.as_str())
                .chain(default.as_deref())
                .collect(),
            Self::Wait { next, .. } | Self::Pass { next, .. } => vec![next],
            Self::Succeed { .. } | Self::Fail { .. } => Vec::new(),
        }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        match self {
            Self::Task {
                resource,
                timeout_seconds,
                timeout_seconds_path,
                retry,
                catch,
                ..
            } => {
                if timeout_seconds.is_some() && timeout_seconds_path.is_some() {
                    faults
                        .push("a Task has one of TimeoutSeconds and TimeoutSecondsPath".to_owned());
                }
                if resource.starts_with("arn:aws:states:::") && resource != ASK {
                    faults.push(format!("the integration {resource} is not known here"));
                }
                faults.extend(names_faults(
                    "Retry",
                    retry.iter().map(|retrier| &retrier.error_equals),
                ));
                faults.extend(names_faults(
                    "Catch",
                    catch.iter().map(|catcher| &catcher.error_equals),
                ));
                for retrier in retry {
                    if retrier.interval_seconds == 0 || retrier.backoff_rate < 1.0 {
                        faults.push(
                            "Retry: an interval begins at 1 second and a back-off at 1.0"
                                .to_owned(),
                        );
                    }
                    if retrier
                        .max_delay_seconds
                        .is_some_and(|longest| longest <= retrier.interval_seconds)
                    {
                        faults.push(
                            "Retry: MaxDelaySeconds must be above IntervalSeconds".to_owned(),
                        );
                    }
                }
            }
            Self::Choice { choices, .. } => {
                if choices.is_empty() || choices.iter().any(|rule| rule.comparisons() != 1) {
                    faults.push(
                        "every choice needs one of BooleanEquals, StringEquals and IsPresent"
                            .to_owned(),
                    );
                }
            }
            Self::Wait {
                seconds,
                seconds_path,
                ..
            } => {
                if seconds.is_some() == seconds_path.is_some() {
                    faults.push("a Wait needs one of Seconds and SecondsPath".to_owned());
                }
            }
            Self::Fail {
                error,
                error_path,
                cause,
                cause_path,
                ..
            } => {
                if error.is_some() == error_path.is_some()
                    || cause.is_some() == cause_path.is_some()
                {
                    faults.push(
                        "a Fail needs one of Error and ErrorPath, and one of Cause and CausePath"
                            .to_owned(),
                    );
                }
            }
            Self::Pass { .. } | Self::Succeed { .. } => {}
        }
        faults
    }
}

impl Rule {
    fn comparisons(&self) -> usize {
        [
            self.boolean_equals.is_some(),
            self.string_equals.is_some(),
            self.is_present.is_some(),
        ]
        .into_iter()
        .filter(|given| *given)
        .count()
    }
}

/// `States.ALL` stands alone and last, as AWS demands.
fn names_faults<'a>(
    field: &str,
    lists: impl ExactSizeIterator<Item = &'a Vec<String>>,
) -> Vec<String> {
    let last = lists.len().saturating_sub(1);
    let mut faults = Vec::new();
    for (index, names) in lists.enumerate() {
        if names.is_empty() {
            faults.push(format!("{field}: ErrorEquals is empty"));
        }
        if names.iter().any(|name| name == "States.ALL") && (names.len() > 1 || index != last) {
            faults.push(format!("{field}: States.ALL must stand alone and last"));
        }
    }
    faults
}
