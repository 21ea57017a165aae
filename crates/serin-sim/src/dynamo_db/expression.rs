//! The part of DynamoDB's expressions that Serin uses, and a refusal of the rest.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;

use super::{Item, invalid};
use crate::wire::Refusal;

/// Words that must be written as `#name`; the ones that an attribute might be called.
const RESERVED: &[&str] = &[
    "ABORT",
    "ACTION",
    "ADD",
    "ALL",
    "AND",
    "ANY",
    "ARRAY",
    "AS",
    "AT",
    "ATTRIBUTE",
    "BEGIN",
    "BETWEEN",
    "BY",
    "CASE",
    "CHECK",
    "COLUMN",
    "COMMENT",
    "COMMIT",
    "CONDITION",
    "CONNECTION",
    "COUNT",
    "CREATE",
    "CURRENT",
    "DATA",
    "DATE",
    "DAY",
    "DEFAULT",
    "DELETE",
    "DESCRIBE",
    "DOMAIN",
    "DURATION",
    "END",
    "ENGINE",
    "ERROR",
    "EVENT",
    "EXECUTE",
    "EXISTS",
    "EXIT",
    "FALSE",
    "FILE",
    "FILTER",
    "FINISH",
    "FIRST",
    "FORMAT",
    "FOUND",
    "FROM",
    "FUNCTION",
    "GET",
    "GROUP",
    "HASH",
    "HOST",
    "HOUR",
    "IDENTITY",
    "IN",
    "INDEX",
    "INPUT",
    "INTERVAL",
    "IS",
    "ITEMS",
    "ITERATE",
    "JOIN",
    "KEY",
    "KEYS",
    "LANGUAGE",
    "LAST",
    "LEVEL",
    "LIMIT",
    "LIST",
    "LOCAL",
    "LOCATION",
    "LOCK",
    "LOG",
    "MAP",
    "MATCH",
    "MAX",
    "MESSAGE",
    "METHOD",
    "METRICS",
    "MIN",
    "MINUTE",
    "MODE",
    "MODIFY",
    "MODULE",
    "MONTH",
    "NAME",
    "NAMES",
    "NEW",
    "NEXT",
    "NO",
    "NOT",
    "NULL",
    "NUMBER",
    "OBJECT",
    "OF",
    "OFF",
    "OFFSET",
    "OLD",
    "ON",
    "OPEN",
    "OPERATION",
    "OPTION",
    "OR",
    "ORDER",
    "OUTPUT",
    "OWNER",
    "PARAMETER",
    "PARTITION",
    "PATH",
    "PERCENT",
    "PERMISSION",
    "PLAN",
    "POSITION",
    "PRIMARY",
    "PROCESS",
    "PROGRAM",
    "PROJECT",
    "QUERY",
    "RANGE",
    "RATE",
    "READ",
    "REASON",
    "RECORD",
    "REF",
    "REGION",
    "RELEASE",
    "REMOVE",
    "REPLACE",
    "REPORT",
    "REQUEST",
    "RESOURCE",
    "RESPONSE",
    "RESTORE",
    "RESULT",
    "RETURN",
    "ROLE",
    "ROLLBACK",
    "ROUTINE",
    "ROW",
    "RULE",
    "SCHEMA",
    "SCOPE",
    "SECOND",
    "SECTION",
    "SEGMENT",
    "SELECT",
    "SEQUENCE",
    "SERVICE",
    "SESSION",
    "SET",
    "SHARD",
    "SHARE",
    "SIGNAL",
    "SIZE",
    "SOURCE",
    "START",
    "STATE",
    "STATEMENT",
    "STATUS",
    "STOP",
    "STREAM",
    "STRING",
    "SUM",
    "SYSTEM",
    "TABLE",
    "TARGET",
    "TEXT",
    "THEN",
    "TIME",
    "TIMEOUT",
    "TIMESTAMP",
    "TO",
    "TOKEN",
    "TOTAL",
    "TRACE",
    "TRANSACTION",
    "TRIGGER",
    "TRUE",
    "TTL",
    "TYPE",
    "UNIT",
    "UPDATE",
    "URL",
    "USAGE",
    "USE",
    "USER",
    "USING",
    "UUID",
    "VALUE",
    "VALUES",
    "VERSION",
    "VIEW",
    "VIEWS",
    "WAIT",
    "WHEN",
    "WHERE",
    "WHILE",
    "WINDOW",
    "WITH",
    "WORK",
    "WRITE",
    "YEAR",
    "ZONE",
];

/// The expressions of one request.
pub(super) struct Expressions<'a> {
    names: Option<&'a HashMap<String, String>>,
    values: Option<&'a Item>,
    used: BTreeSet<String>,
    tokens: Vec<String>,
    position: usize,
}

impl<'a> Expressions<'a> {
    pub(super) fn new(
        names: Option<&'a HashMap<String, String>>,
        values: Option<&'a Item>,
    ) -> Self {
        Self {
            names,
            values,
            used: BTreeSet::new(),
            tokens: Vec::new(),
            position: 0,
        }
    }

    /// Whether a condition holds on an item.
    pub(super) fn condition(&mut self, text: &str, item: &Item) -> Result<bool, Refusal> {
        self.begin(text)?;
        let holds = self.any(item)?;
        self.end()?;
        Ok(holds)
    }

    /// The item after an update.
    pub(super) fn update(&mut self, text: &str, item: &Item) -> Result<Item, Refusal> {
        let mut new = item.clone();
        self.begin(text)?;
        while let Some(clause) = self.next() {
            match clause.to_ascii_uppercase().as_str() {
                "SET" => self.separated(|this| {
                    let name = this.path()?;
                    this.expect("=")?;
                    let value = this.operand(item)?;
                    new.insert(name, value.ok_or_else(|| invalid("The provided expression refers to an attribute that does not exist in the item"))?);
                    Ok(())
                })?,
                "REMOVE" => self.separated(|this| {
                    let name = this.path()?;
                    new.remove(&name);
                    Ok(())
                })?,
                other => return Err(invalid(format!("the simulation does not know the update clause {other}"))),
            }
        }
        Ok(new)
    }

    /// The names of a projection.
    pub(super) fn projection(&mut self, text: &str) -> Result<Vec<String>, Refusal> {
        let mut names = Vec::new();
        self.begin(text)?;
        self.separated(|this| {
            names.push(this.path()?);
            Ok(())
        })?;
        self.end()?;
        Ok(names)
    }

    /// DynamoDB refuses names and values that no expression uses.
    pub(super) fn all_used(&self) -> Result<(), Refusal> {
        let names = self.names.into_iter().flat_map(HashMap::keys);
        let values = self.values.into_iter().flat_map(HashMap::keys);
        match names
            .chain(values)
            .find(|given| !self.used.contains(*given))
        {
            Some(unused) => Err(invalid(format!(
                "Value provided in ExpressionAttributeNames or -Values unused in expressions: {unused}"
            ))),
            None => Ok(()),
        }
    }

    fn begin(&mut self, text: &str) -> Result<(), Refusal> {
        self.tokens = tokens(text)?;
        self.position = 0;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Refusal> {
        match self.next() {
            None => Ok(()),
            Some(token) => Err(invalid(format!("Syntax error; token: {token:?}"))),
        }
    }

    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.position).map(String::as_str)
    }

    fn next(&mut self) -> Option<String> {
        let token = self.tokens.get(self.position).cloned();
        self.position += 1;
        token
    }

    fn take(&mut self, word: &str) -> bool {
        let taken = self
            .peek()
            .is_some_and(|token| token.eq_ignore_ascii_case(word));
        self.position += usize::from(taken);
        taken
    }

    fn expect(&mut self, word: &str) -> Result<(), Refusal> {
        if self.take(word) {
            Ok(())
        } else {
            Err(invalid(format!(
                "Syntax error; expected {word:?}, found {:?}",
                self.peek()
            )))
        }
    }

    fn separated(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        one(self)?;
        while self.take(",") {
            one(self)?;
        }
        Ok(())
    }

    fn any(&mut self, item: &Item) -> Result<bool, Refusal> {
        let mut holds = self.all(item)?;
        while self.take("OR") {
            holds |= self.all(item)?;
        }
        Ok(holds)
    }

    fn all(&mut self, item: &Item) -> Result<bool, Refusal> {
        let mut holds = self.one(item)?;
        while self.take("AND") {
            holds &= self.one(item)?;
        }
        Ok(holds)
    }

    fn one(&mut self, item: &Item) -> Result<bool, Refusal> {
        if self.take("NOT") {
            return Ok(!self.one(item)?);
        }
        if self.take("(") {
            let holds = self.any(item)?;
            self.expect(")")?;
            return Ok(holds);
        }
        for (function, wanted) in [("attribute_exists", true), ("attribute_not_exists", false)] {
            if self.take(function) {
                self.expect("(")?;
                let name = self.path()?;
                self.expect(")")?;
                return Ok(item.contains_key(&name) == wanted);
            }
        }
        let left = self.operand(item)?;
        let operator = self
            .next()
            .ok_or_else(|| invalid("Syntax error; the condition ends early"))?;
        if operator.eq_ignore_ascii_case("IN") {
            self.expect("(")?;
            let mut holds = false;
            self.separated(|this| {
                let right = this.operand(item)?;
                holds |= left.is_some() && left == right;
                Ok(())
            })?;
            self.expect(")")?;
            return Ok(holds);
        }
        let right = self.operand(item)?;
        let order = compare(left.as_ref(), right.as_ref());
        match operator.as_str() {
            "=" => Ok(left.is_some() && left == right),
            // A missing attribute differs from every value.
            "<>" => Ok(left != right),
            "<" => Ok(order == Some(Ordering::Less)),
            "<=" => Ok(matches!(order, Some(Ordering::Less | Ordering::Equal))),
            ">" => Ok(order == Some(Ordering::Greater)),
            ">=" => Ok(matches!(order, Some(Ordering::Greater | Ordering::Equal))),
            other => Err(invalid(format!(
                "the simulation does not know the operator {other}"
            ))),
        }
    }

    /// A value, or what an attribute holds; `None` when there is no such attribute.
    fn operand(&mut self, item: &Item) -> Result<Option<AttributeValue>, Refusal> {
        if self.take("if_not_exists") {
            self.expect("(")?;
            let name = self.path()?;
            self.expect(",")?;
            let otherwise = self.operand(item)?;
            self.expect(")")?;
            return Ok(item.get(&name).cloned().or(otherwise));
        }
        if self.peek().is_some_and(|token| token.starts_with(':')) {
            let name = self.next().expect("it was peeked at");
            let value = self.values.and_then(|values| values.get(&name)).cloned();
            self.used.insert(name.clone());
            return value.map(Some).ok_or_else(|| invalid(format!("An expression attribute value used in expression is not defined; attribute value: {name}")));
        }
        let name = self.path()?;
        Ok(item.get(&name).cloned())
    }

    fn path(&mut self) -> Result<String, Refusal> {
        let token = self
            .next()
            .ok_or_else(|| invalid("Syntax error; the expression ends early"))?;
        if token.starts_with('#') {
            let name = self.names.and_then(|names| names.get(&token)).cloned();
            self.used.insert(token.clone());
            return name.ok_or_else(|| invalid(format!("An expression attribute name used in the document path is not defined; attribute name: {token}")));
        }
        if !token.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Err(invalid(format!("Syntax error; token: {token:?}")));
        }
        if RESERVED.contains(&token.to_ascii_uppercase().as_str()) {
            return Err(invalid(format!(
                "Attribute name is a reserved keyword; reserved keyword: {token}"
            )));
        }
        Ok(token)
    }
}

fn compare(left: Option<&AttributeValue>, right: Option<&AttributeValue>) -> Option<Ordering> {
    match (left?, right?) {
        (AttributeValue::S(left), AttributeValue::S(right)) => Some(left.cmp(right)),
        (AttributeValue::N(left), AttributeValue::N(right)) => left
            .parse::<f64>()
            .ok()?
            .partial_cmp(&right.parse::<f64>().ok()?),
        _ => None,
    }
}

fn tokens(text: &str) -> Result<Vec<String>, Refusal> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || "_#:".contains(letter);
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
        } else if "<>".contains(letter) {
            while let Some(next) = letters.next_if(|&next| ">=".contains(next)) {
                token.push(next);
            }
        } else if !"=(),".contains(letter) {
            return Err(invalid(format!(
                "the simulation does not know {letter:?} in {text:?}"
            )));
        }
        tokens.push(token);
    }
    Ok(tokens)
}
