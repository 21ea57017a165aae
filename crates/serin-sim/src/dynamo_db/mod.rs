//! Amazon DynamoDB: tables with the partition key `id`, conditional writes.

mod expression;

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::operation::delete_item::{DeleteItemInput, DeleteItemOutput};
use aws_sdk_dynamodb::operation::get_item::{GetItemInput, GetItemOutput};
use aws_sdk_dynamodb::operation::put_item::{PutItemInput, PutItemOutput};
use aws_sdk_dynamodb::operation::query::{QueryInput, QueryOutput};
use aws_sdk_dynamodb::operation::scan::{ScanInput, ScanOutput};
use aws_sdk_dynamodb::operation::update_item::{UpdateItemInput, UpdateItemOutput};
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use serde_json::{Map, Value, json};

use self::expression::Expressions;
use crate::wire::Refusal;
use crate::world::World;

/// An item.
pub type Item = HashMap<String, AttributeValue>;

/// A text in an item.
pub fn text(text: impl Into<String>) -> AttributeValue {
    AttributeValue::S(text.into())
}

/// The partition key of every table.
const KEY: &str = "id";

/// The tables of the account: items by partition key.
#[derive(Debug, Clone, Default)]
pub(crate) struct DynamoDb {
    pub(crate) tables: BTreeMap<String, BTreeMap<String, Item>>,
}

pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("ValidationException", message)
}

fn table<'a>(
    world: &'a mut World,
    name: Option<&str>,
) -> Result<&'a mut BTreeMap<String, Item>, Refusal> {
    let name = name.ok_or_else(|| invalid("tableName is required"))?;
    let missing = || Refusal::new("ResourceNotFoundException", "Requested resource not found");
    world.dynamo_db.tables.get_mut(name).ok_or_else(missing)
}

fn key(item: Option<&Item>, alone: bool) -> Result<String, Refusal> {
    let item = item.ok_or_else(|| invalid("the item or key is required"))?;
    if alone && item.len() != 1 {
        return Err(invalid(
            "The provided key element does not match the schema",
        ));
    }
    match item.get(KEY) {
        Some(AttributeValue::S(id)) if !id.is_empty() => Ok(id.clone()),
        _ => Err(invalid(
            "One or more parameter values were invalid: Missing the key id in the item",
        )),
    }
}

/// DynamoDB refuses numbers that are none.
fn check_values(item: &Item) -> Result<(), Refusal> {
    for (name, value) in item {
        match value {
            AttributeValue::N(number) if number.parse::<f64>().is_err() => {
                return Err(invalid(format!(
                    "The parameter cannot be converted to a numeric value: {name} {number}"
                )));
            }
            AttributeValue::Ss(members) if members.is_empty() => {
                return Err(invalid("An string set may not be empty"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn condition_failed(
    item: Option<&Item>,
    wanted: Option<&ReturnValuesOnConditionCheckFailure>,
) -> Refusal {
    let refusal = Refusal::new(
        "ConditionalCheckFailedException",
        "The conditional request failed",
    );
    match (item, wanted) {
        (Some(item), Some(ReturnValuesOnConditionCheckFailure::AllOld)) => {
            refusal.member("Item", to_json(item))
        }
        _ => refusal,
    }
}

fn to_json(item: &Item) -> Value {
    Value::Object(
        item.iter()
            .map(|(name, value)| (name.clone(), value_to_json(value)))
            .collect::<Map<_, _>>(),
    )
}

fn value_to_json(value: &AttributeValue) -> Value {
    match value {
        AttributeValue::S(text) => json!({"S": text}),
        AttributeValue::N(number) => json!({"N": number}),
        AttributeValue::Bool(yes) => json!({"BOOL": yes}),
        AttributeValue::Null(yes) => json!({"NULL": yes}),
        AttributeValue::Ss(texts) => json!({"SS": texts}),
        AttributeValue::Ns(numbers) => json!({"NS": numbers}),
        AttributeValue::L(values) => {
            json!({"L": values.iter().map(value_to_json).collect::<Vec<_>>()})
        }
        AttributeValue::M(item) => json!({"M": to_json(item)}),
        other => panic!("the simulation does not know the attribute {other:?}"),
    }
}

pub(crate) fn get_item(world: &mut World, input: &GetItemInput) -> Result<GetItemOutput, Refusal> {
    assert!(
        input.attributes_to_get.is_none(),
        "the simulation does not know AttributesToGet"
    );
    let item = table(world, input.table_name())?
        .get(&key(input.key(), true)?)
        .cloned();
    let item = match (item, input.projection_expression()) {
        (Some(item), Some(projection)) => {
            let mut expressions = Expressions::new(input.expression_attribute_names(), None);
            let names = expressions.projection(projection)?;
            expressions.all_used()?;
            Some(
                item.into_iter()
                    .filter(|(name, _)| names.contains(name))
                    .collect(),
            )
        }
        (item, _) => item,
    };
    Ok(GetItemOutput::builder().set_item(item).build())
}

pub(crate) fn put_item(world: &mut World, input: &PutItemInput) -> Result<PutItemOutput, Refusal> {
    assert!(
        input.expected.is_none(),
        "the simulation does not know Expected"
    );
    let items = table(world, input.table_name())?;
    let key = key(input.item(), false)?;
    let item = input.item().expect("it has a key").clone();
    check_values(&item)?;
    let old = items.get(&key);
    check(
        old,
        input.condition_expression(),
        input.expression_attribute_names(),
        input.expression_attribute_values(),
        None,
    )?
    .then_some(())
    .ok_or_else(|| condition_failed(old, input.return_values_on_condition_check_failure()))?;
    let old = items.insert(key, item);
    Ok(PutItemOutput::builder()
        .set_attributes(old_values(old, input.return_values())?)
        .build())
}

pub(crate) fn delete_item(
    world: &mut World,
    input: &DeleteItemInput,
) -> Result<DeleteItemOutput, Refusal> {
    assert!(
        input.expected.is_none(),
        "the simulation does not know Expected"
    );
    let items = table(world, input.table_name())?;
    let key = key(input.key(), true)?;
    let old = items.get(&key);
    check(
        old,
        input.condition_expression(),
        input.expression_attribute_names(),
        input.expression_attribute_values(),
        None,
    )?
    .then_some(())
    .ok_or_else(|| condition_failed(old, input.return_values_on_condition_check_failure()))?;
    let old = items.remove(&key);
    Ok(DeleteItemOutput::builder()
        .set_attributes(old_values(old, input.return_values())?)
        .build())
}

pub(crate) fn update_item(
    world: &mut World,
    input: &UpdateItemInput,
) -> Result<UpdateItemOutput, Refusal> {
    assert!(
        input.expected.is_none() && input.attribute_updates.is_none(),
        "the simulation does not know Expected or AttributeUpdates"
    );
    let items = table(world, input.table_name())?;
    let key = key(input.key(), true)?;
    let old = items.get(&key).cloned();
    let mut new = old
        .clone()
        .unwrap_or_else(|| input.key().expect("it was checked").clone());
    let update = Some((input.update_expression().unwrap_or_default(), &mut new));
    check(
        old.as_ref(),
        input.condition_expression(),
        input.expression_attribute_names(),
        input.expression_attribute_values(),
        update,
    )?
    .then_some(())
    .ok_or_else(|| {
        condition_failed(
            old.as_ref(),
            input.return_values_on_condition_check_failure(),
        )
    })?;
    check_values(&new)?;
    if new.get(KEY) != Some(&AttributeValue::S(key.clone())) {
        return Err(invalid(
            "Cannot update attribute id. This attribute is part of the key",
        ));
    }
    items.insert(key, new.clone());
    let changed = |from: &Item, against: Option<&Item>| -> Item {
        let differs = |name: &String, value: &AttributeValue| {
            against.and_then(|item| item.get(name)) != Some(value)
        };
        from.iter()
            .filter(|(name, value)| differs(name, value))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    let attributes = match input.return_values() {
        None | Some(ReturnValue::None) => None,
        Some(ReturnValue::AllNew) => Some(new),
        Some(ReturnValue::AllOld) => old,
        Some(ReturnValue::UpdatedNew) => Some(changed(&new, old.as_ref())),
        Some(ReturnValue::UpdatedOld) => old.map(|old| changed(&old, Some(&new))),
        Some(other) => return Err(invalid(format!("ReturnValues {other}"))),
    };
    Ok(UpdateItemOutput::builder()
        .set_attributes(attributes)
        .build())
}

/// The index of the ledger, with the attribute `execution` as its key: it has the items that have one, and no others.
const INDEX: (&str, &str) = ("held", "execution");
/// So few items make a page that whoever does not ask for the next one is noticed.
const PAGE: usize = 1;

/// A scan of the index; of a whole table it would be a mistake.
pub(crate) fn scan(world: &mut World, input: &ScanInput) -> Result<ScanOutput, Refusal> {
    assert!(
        input.filter_expression.is_none()
            && input.projection_expression.is_none()
            && input.limit.is_none(),
        "the simulation does not know filters, projections and limits of a scan"
    );
    let items = table(world, input.table_name())?;
    if input.index_name() != Some(INDEX.0) {
        return Err(invalid(
            "The table does not have the specified index, or the whole table would be read",
        ));
    }
    if input.consistent_read() == Some(true) {
        return Err(invalid(
            "Consistent reads are not supported on global secondary indexes",
        ));
    }
    let start = input
        .exclusive_start_key()
        .and_then(|key| match key.get(KEY) {
            Some(AttributeValue::S(id)) => Some(id.clone()),
            _ => None,
        });
    let mut held = items
        .iter()
        .filter(|(id, item)| {
            item.contains_key(INDEX.1) && start.as_ref().is_none_or(|start| *id > start)
        })
        .map(|(_, item)| item.clone());
    let page: Vec<Item> = held.by_ref().take(PAGE).collect();
    let last = held.next().and(page.last()).map(|item| {
        [KEY, INDEX.1]
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), item.get(name)?.clone())))
            .collect()
    });
    Ok(ScanOutput::builder()
        .set_items(Some(page))
        .set_last_evaluated_key(last)
        .build())
}

/// The index of the records: its key, and what orders it.
const RECENT: (&str, &str, &str) = ("recent", "listed", "startedAt");
/// What it has of an item beside its keys, as in the template.
const PROJECTED: [&str; 5] = ["service", "version", "phase", "ending", "endedAt"];

/// A query of that index.
pub(crate) fn query(world: &mut World, input: &QueryInput) -> Result<QueryOutput, Refusal> {
    assert!(
        input.filter_expression.is_none()
            && input.projection_expression.is_none()
            && input.exclusive_start_key.is_none(),
        "the simulation does not know filters, projections and further pages of a query"
    );
    let items = table(world, input.table_name())?;
    let (index, hash, range) = RECENT;
    if input.index_name() != Some(index) {
        return Err(invalid("The table does not have the specified index"));
    }
    let condition = input
        .key_condition_expression()
        .ok_or_else(|| invalid("Either the KeyConditions or KeyConditionExpression is required"))?;
    let mut found = Vec::new();
    for item in items.values().filter(|item| item.contains_key(range)) {
        let mut expressions = Expressions::new(
            input.expression_attribute_names(),
            input.expression_attribute_values(),
        );
        let holds = expressions.condition(condition, item)?;
        expressions.all_used()?;
        if holds {
            let mut seen = item.clone();
            seen.retain(|name, _| {
                [KEY, hash, range].contains(&name.as_str()) || PROJECTED.contains(&name.as_str())
            });
            found.push(seen);
        }
    }
    found.sort_by_key(|item| item[range].as_s().cloned().unwrap_or_default());
    if input.scan_index_forward() == Some(false) {
        found.reverse();
    }
    let limit = input.limit().and_then(|limit| usize::try_from(limit).ok());
    found.truncate(limit.unwrap_or(usize::MAX));
    Ok(QueryOutput::builder().set_items(Some(found)).build())
}

fn old_values(old: Option<Item>, wanted: Option<&ReturnValue>) -> Result<Option<Item>, Refusal> {
    match wanted {
        None | Some(ReturnValue::None) => Ok(None),
        Some(ReturnValue::AllOld) => Ok(old),
        Some(_) => Err(invalid("Return values set to invalid value")),
    }
}

/// Whether the condition holds on the old item; if it does, the update is made in the new one.
fn check(
    old: Option<&Item>,
    condition: Option<&str>,
    names: Option<&HashMap<String, String>>,
    values: Option<&Item>,
    update: Option<(&str, &mut Item)>,
) -> Result<bool, Refusal> {
    let mut expressions = Expressions::new(names, values);
    let empty = Item::new();
    let item = old.unwrap_or(&empty);
    let holds = match condition {
        None => true,
        Some(condition) => expressions.condition(condition, item)?,
    };
    if let Some((update, new)) = update {
        let changed = expressions.update(update, new)?;
        if holds {
            *new = changed;
        }
    }
    expressions.all_used()?;
    Ok(holds)
}
