//! Metric math, as far as arithmetic and `FILL` go.

use std::collections::BTreeMap;

use super::{Points, invalid};
use crate::wire::Refusal;

/// A series or a number.
enum Term {
    Series(Points),
    Number(f64),
}

/// The series of an expression; `None` while one of its ids is not known.
pub(super) fn evaluate(
    text: &str,
    known: &BTreeMap<&str, Points>,
) -> Result<Option<Points>, Refusal> {
    let tokens = tokens(text)?;
    let is_id = |token: &&String| token.starts_with(|first: char| first.is_ascii_lowercase());
    if !tokens
        .iter()
        .filter(is_id)
        .all(|id| known.contains_key(id.as_str()))
    {
        return Ok(None);
    }
    let mut parser = Parser {
        tokens,
        position: 0,
        known,
    };
    let term = parser.sum()?;
    if parser.position != parser.tokens.len() {
        return Err(invalid(format!(
            "Error in expression {text:?}: syntax error"
        )));
    }
    match term {
        Term::Series(points) => Ok(Some(points)),
        Term::Number(_) => Err(invalid(format!(
            "Error in expression {text:?}: it is not a time series"
        ))),
    }
}

struct Parser<'a> {
    tokens: Vec<String>,
    position: usize,
    known: &'a BTreeMap<&'a str, Points>,
}

impl Parser<'_> {
    fn take(&mut self, any: &[&str]) -> Option<String> {
        let token = self
            .tokens
            .get(self.position)
            .filter(|token| any.contains(&token.as_str()))
            .cloned();
        self.position += usize::from(token.is_some());
        token
    }

    fn sum(&mut self) -> Result<Term, Refusal> {
        let mut left = self.product()?;
        while let Some(operator) = self.take(&["+", "-"]) {
            left = combine(left, &operator, self.product()?);
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Term, Refusal> {
        let mut left = self.factor()?;
        while let Some(operator) = self.take(&["*", "/"]) {
            left = combine(left, &operator, self.factor()?);
        }
        Ok(left)
    }

    fn factor(&mut self) -> Result<Term, Refusal> {
        let token = self
            .tokens
            .get(self.position)
            .cloned()
            .ok_or_else(|| invalid("Error in expression: it ends early"))?;
        self.position += 1;
        if token == "(" {
            let inner = self.sum()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if token == "FILL" {
            self.expect("(")?;
            let inner = self.sum()?;
            self.expect(",")?;
            let filling = self.sum()?;
            self.expect(")")?;
            // The times at which any series of the request has a datapoint are the ones to fill.
            return match (inner, filling) {
                (Term::Series(mut points), Term::Number(value)) => {
                    for at in self.known.values().flat_map(|points| points.keys()) {
                        points.entry(*at).or_insert(value);
                    }
                    Ok(Term::Series(points))
                }
                _ => Err(invalid(
                    "Error in expression: FILL takes a series and a number",
                )),
            };
        }
        if let Ok(number) = token.parse() {
            return Ok(Term::Number(number));
        }
        let points = self.known.get(token.as_str());
        points.cloned().map(Term::Series).ok_or_else(|| {
            invalid(format!(
                "Error in expression: the simulation does not know {token}"
            ))
        })
    }

    fn expect(&mut self, token: &str) -> Result<(), Refusal> {
        self.take(&[token])
            .map(drop)
            .ok_or_else(|| invalid(format!("Error in expression: expected {token}")))
    }
}

/// Two series give a value where both have one; what cannot be divided gives none.
fn combine(left: Term, operator: &str, right: Term) -> Term {
    let compute = |left: f64, right: f64| match operator {
        "+" => Some(left + right),
        "-" => Some(left - right),
        "*" => Some(left * right),
        _ => (right != 0.0).then(|| left / right),
    };
    match (left, right) {
        (Term::Number(left), Term::Number(right)) => {
            Term::Number(compute(left, right).unwrap_or(f64::NAN))
        }
        (Term::Series(points), Term::Number(right)) => Term::Series(
            points
                .into_iter()
                .filter_map(|(at, left)| Some((at, compute(left, right)?)))
                .collect(),
        ),
        (Term::Number(left), Term::Series(points)) => Term::Series(
            points
                .into_iter()
                .filter_map(|(at, right)| Some((at, compute(left, right)?)))
                .collect(),
        ),
        (Term::Series(left), Term::Series(right)) => Term::Series(
            left.into_iter()
                .filter_map(|(at, left)| Some((at, compute(left, *right.get(&at)?)?)))
                .collect(),
        ),
    }
}

fn tokens(text: &str) -> Result<Vec<String>, Refusal> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "_.".contains(letter);
    let mut tokens = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter.is_whitespace() {
            continue;
        }
        let mut token = String::from(letter);
        if is_word(letter) {
            while let Some(next) = letters.next_if(|&next| is_word(next)) {
                token.push(next);
            }
        } else if !"+-*/(),".contains(letter) {
            return Err(invalid(format!(
                "Error in expression {text:?}: the simulation does not know {letter:?}"
            )));
        }
        tokens.push(token);
    }
    Ok(tokens)
}
