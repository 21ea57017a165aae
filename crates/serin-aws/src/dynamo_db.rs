//! The ledger in one Amazon DynamoDB table.
//!
//! The kinds of items: `service#<cluster>/<service>`, the lock (`execution`, `since` while it is held, `bearer` after a
//! `replace`; `last` and `lastStartedAt`, who had it last; `waiting`, `waitingStartedAt` and `waitingVersion`, who waits for it); and `deployment#<execution>`, the record (`document`, `phase`, `startedAt`; `supersededBy` when it had to make room; `ending`,
//! `endedAt` and `left` when a person must finish it; `ending`, `endedAt` and `expiresAt` once it is over); `evidence#<execution>#<n>`, what the checks found,
//! each under its own number, a few in one item; and `history#<execution>`, the notices, each under its own name. Beside them
//! `request#<execution>` (the request as it came), `wishes#<execution>` (what people wished of it, each under its own name),
//! `question#<execution>` (what a frozen deployment asks, with the token that answers it) and `order#<execution>` (what a running
//! one is to do after its next check). Every change of the first two is one conditional write, so that two
//! Lambdas cannot both make it; evidence, history, request and wishes decide nothing.
//!
//! The index `held` has the attribute `execution` as its key, which only a lock that is held has: it lists these and no other
//! item. The index `recent` has the attribute `listed`, which only a record has, and orders by `startedAt`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serin::history::{Story, Summary, Wish};
use serin::notice::Versions;
use serin::ports::{
    Contender, ExecutionStatus, HeldLock, History, Ledger, LedgerRecord, Lock, LockHolder, Phase,
    Turns,
};
use serin::verdict::cut;
use serin::{
    ClusterName, Deployment, Ending, ExecutionArn, Leftover, Notice, PortError, ServiceKey,
    ServiceName, Verdict, VersionId,
};

use crate::decisions::order_id;
use crate::error::{failed, has_code, refused};
use crate::step_functions;

/// How long what is over is kept, unless the installation says otherwise: as long as Step Functions keeps the history of an
/// execution.
pub(crate) const KEPT_DAYS: u16 = 90;

/// How many checks are kept in one item: each takes one to four kilobytes, DynamoDB allows 400, and a write is paid by what the
/// item has.
const CHECKS_PER_ITEM: u32 = 25;

/// How long keeping a check may take: its verdict waits for it, and may be one that takes the traffic back.
const KEEPING: Duration = Duration::from_secs(3);

/// The index of the locks that are held.
const HELD: &str = "held";
/// The index of the records, by their beginning.
const RECENT: &str = "recent";
/// What every record has as its `listed`: the index is one list.
const LISTED: &str = "deployment";
/// How much of what is deployed the list has, in characters.
const LONGEST_VERSION: usize = 300;
/// The attributes of the items of notices, wishes and checks that are none.
const NOT_KEPT: [&str; 2] = ["id", "expiresAt"];

/// Every phase, for the condition that lets through those from which another may be entered.
const PHASES: [Phase; 6] = [
    Phase::Running,
    Phase::Promoting,
    Phase::PromotionStopped,
    Phase::CleaningUp,
    Phase::RollingBack,
    Phase::Ended,
];

type Item = HashMap<String, AttributeValue>;

/// The durable record of each deployment, and the lock of its service.
#[derive(Debug, Clone)]
pub struct DynamoDbLedger {
    dynamo_db: aws_sdk_dynamodb::Client,
    step_functions: aws_sdk_sfn::Client,
    table: String,
    kept: SignedDuration,
}

impl DynamoDbLedger {
    pub(crate) fn new(
        dynamo_db: aws_sdk_dynamodb::Client,
        step_functions: aws_sdk_sfn::Client,
        table: impl Into<String>,
    ) -> Self {
        Self {
            dynamo_db,
            step_functions,
            table: table.into(),
            kept: days(KEPT_DAYS),
        }
    }

    /// The same, with what is over kept for so many days.
    pub(crate) fn kept_for(self, days: u16) -> Self {
        Self {
            kept: self::days(days),
            ..self
        }
    }

    /// When what is kept at this time goes.
    fn expires(&self, at: Timestamp) -> AttributeValue {
        let gone = at.saturating_add(self.kept);
        AttributeValue::N(gone.map_or(i64::MAX, Timestamp::as_second).to_string())
    }

    /// Keeps a text under a name of an item that expires, within the time that a step can wait for it.
    async fn keep(
        &self,
        id: String,
        name: &str,
        text: String,
        at: Timestamp,
    ) -> Result<(), PortError> {
        let update = self
            .update(id, &["expiresAt"])
            .update_expression("SET #expiresAt = :expires, #kept = :kept")
            .expression_attribute_names("#kept", name)
            .expression_attribute_values(":expires", self.expires(at))
            .expression_attribute_values(":kept", AttributeValue::S(text));
        let timeouts = TimeoutConfig::builder().operation_timeout(KEEPING).build();
        let patience = aws_sdk_dynamodb::config::Builder::new().timeout_config(timeouts);
        let kept = update.customize().config_override(patience).send().await;
        kept.map(drop).map_err(failed("DynamoDB UpdateItem"))
    }

    /// What was kept in an item, by name.
    async fn all_kept<T: DeserializeOwned>(
        &self,
        id: String,
    ) -> Result<BTreeMap<String, T>, PortError> {
        let item = self.get(id.clone()).await?.unwrap_or_default();
        let texts = item
            .iter()
            .filter(|(name, _)| !NOT_KEPT.contains(&name.as_str()))
            .filter_map(|(name, kept)| Some((name, kept.as_s().ok()?)));
        let mut kept = BTreeMap::new();
        for (name, text) in texts {
            let read = serde_json::from_str(text).map_err(|error| {
                let why = format!("{name} of {id} cannot be read: {error}");
                refused("DynamoDB GetItem", why)
            })?;
            kept.insert(name.clone(), read);
        }
        Ok(kept)
    }

    /// An update of one item that gives the item back when its condition does not hold.
    ///
    /// Every attribute is written with a `#`, since DynamoDB reserves hundreds of words and may reserve more.
    fn update(&self, id: String, names: &[&str]) -> UpdateItemFluentBuilder {
        let update = self
            .dynamo_db
            .update_item()
            .table_name(&self.table)
            .key("id", AttributeValue::S(id))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        names.iter().fold(update, |update, name| {
            update.expression_attribute_names(format!("#{name}"), *name)
        })
    }

    /// Makes the update; gives the item after it, or, when the condition does not hold, the one that is in the way.
    async fn make(
        &self,
        update: UpdateItemFluentBuilder,
    ) -> Result<Result<Item, Option<Item>>, PortError> {
        match update.return_values(ReturnValue::AllNew).send().await {
            Ok(answer) => Ok(Ok(answer.attributes.unwrap_or_default())),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failure)) => {
                    Ok(Err(failure.item().cloned()))
                }
                _ => Err(failed("DynamoDB UpdateItem")(error)),
            },
        }
    }

    async fn get(&self, id: String) -> Result<Option<Item>, PortError> {
        let request = self
            .dynamo_db
            .get_item()
            .table_name(&self.table)
            .key("id", AttributeValue::S(id));
        // An eventual read could miss the lock or the phase that was just written.
        let answer = request
            .consistent_read(true)
            .send()
            .await
            .map_err(failed("DynamoDB GetItem"))?;
        Ok(answer.item)
    }
}

impl Ledger for DynamoDbLedger {
    async fn lock(
        &self,
        service: &ServiceKey,
        execution: &ExecutionArn,
        started_at: Timestamp,
        now: Timestamp,
    ) -> Result<Lock, PortError> {
        // Who waits, and who was there last, are in the same condition: two planners cannot both find that it is their turn.
        let names = ["execution", "since", "last", "lastStartedAt", "waiting"];
        let update = self
            .update(lock_id(service), &names)
            .update_expression(
                "SET #execution = :me, #since = if_not_exists(#since, :now), #last = :me, #lastStartedAt = :started",
            )
            .condition_expression(
                "#execution = :me OR (attribute_not_exists(#execution) AND (attribute_not_exists(#waiting) OR #waiting = :me) AND (attribute_not_exists(#lastStartedAt) OR #lastStartedAt <= :started))",
            )
            .expression_attribute_values(":me", AttributeValue::S(execution.to_string()))
            .expression_attribute_values(":started", millisecond(started_at))
            .expression_attribute_values(":now", AttributeValue::S(now.to_string()));
        let held = match self.make(update).await? {
            Ok(item) => {
                return Ok(Lock::Taken {
                    bearer: text(&item, "bearer").map(ServiceName::new),
                });
            }
            Err(Some(item)) => Some(item),
            Err(None) => self.get(lock_id(service)).await?,
        };
        Ok(held
            .as_ref()
            .and_then(holder)
            .map_or(Lock::Reserved, Lock::Held))
    }

    async fn turns(&self, service: &ServiceKey) -> Result<Turns, PortError> {
        let item = self.get(lock_id(service)).await?.unwrap_or_default();
        Ok(Turns {
            holder: holder(&item),
            last: contender(&item, ["last", "lastStartedAt", "lastVersion"]),
            waiter: contender(&item, WAITER),
        })
    }

    async fn wait(&self, service: &ServiceKey, waiter: &Contender) -> Result<bool, PortError> {
        let version_expression = match waiter.version {
            Some(_) => ", #waitingVersion = :version",
            None => " REMOVE #waitingVersion",
        };
        let mut update = self
            .update(lock_id(service), &WAITER)
            .update_expression(format!(
                "SET #waiting = :me, #waitingStartedAt = :started{version_expression}"
            ))
            // The newest wins, in whichever order they come.
            .condition_expression(
                "attribute_not_exists(#waiting) OR #waiting = :me OR #waitingStartedAt < :started OR (#waitingStartedAt = :started AND #waiting < :me)",
            )
            .expression_attribute_values(":me", AttributeValue::S(waiter.execution.to_string()))
            .expression_attribute_values(":started", millisecond(waiter.started_at));
        if let Some(version) = &waiter.version {
            let version = AttributeValue::S(version.to_string());
            update = update.expression_attribute_values(":version", version);
        }
        Ok(self.make(update).await?.is_ok())
    }

    async fn leave(&self, service: &ServiceKey, execution: &ExecutionArn) -> Result<(), PortError> {
        let update = self
            .update(lock_id(service), &WAITER)
            .update_expression("REMOVE #waiting, #waitingStartedAt, #waitingVersion")
            .condition_expression("#waiting = :me")
            .expression_attribute_values(":me", AttributeValue::S(execution.to_string()));
        // A place that is another's by now is not ours to give back.
        self.make(update).await.map(drop)
    }

    async fn unlock(
        &self,
        service: &ServiceKey,
        execution: &ExecutionArn,
    ) -> Result<(), PortError> {
        let update = self
            .update(lock_id(service), &["execution", "since"])
            .update_expression("REMOVE #execution, #since")
            .condition_expression("#execution = :me")
            .expression_attribute_values(":me", AttributeValue::S(execution.to_string()));
        // A lock that is not ours is not ours to give back, and one that is free is free.
        self.make(update).await.map(drop)
    }

    async fn record(&self, deployment: &Deployment) -> Result<(), PortError> {
        let document = serde_json::to_string(deployment).map_err(|error| {
            refused(
                "DynamoDB PutItem",
                format!("the deployment cannot be written as JSON: {error}"),
            )
        })?;
        let request = self
            .dynamo_db
            .put_item()
            .table_name(&self.table)
            .item("id", AttributeValue::S(record_id(&deployment.execution)))
            .item("document", AttributeValue::S(document))
            .item("phase", AttributeValue::S(Phase::Running.to_string()))
            .item(
                "startedAt",
                AttributeValue::S(deployment.started_at.to_string()),
            )
            .item("listed", AttributeValue::S(LISTED.to_owned()))
            .item("service", AttributeValue::S(deployment.service.to_string()))
            .item(
                "version",
                AttributeValue::S(cut(
                    &Versions::of(deployment).canary.join(", "),
                    LONGEST_VERSION,
                )),
            )
            .condition_expression("attribute_not_exists(#id)")
            .expression_attribute_names("#id", "id");
        match request.send().await {
            Err(error) if has_code(&error, "ConditionalCheckFailedException") => Ok(()),
            answer => answer.map(drop).map_err(failed("DynamoDB PutItem")),
        }
    }

    async fn find(&self, execution: &ExecutionArn) -> Result<Option<LedgerRecord>, PortError> {
        let Some(item) = self.get(record_id(execution)).await? else {
            return Ok(None);
        };
        let unreadable = |what: &str| {
            refused(
                "DynamoDB GetItem",
                format!("the record of {execution} has no readable {what}"),
            )
        };
        let document = text(&item, "document").ok_or_else(|| unreadable("document"))?;
        let deployment = serde_json::from_str(document)
            .map_err(|error| unreadable(&format!("document ({error})")))?;
        let phase = phase(&item).ok_or_else(|| unreadable("phase"))?;
        let ending = match text(&item, "ending") {
            Some(ending) => Some(self::ending(ending).ok_or_else(|| unreadable("ending"))?),
            None => None,
        };
        let left = match text(&item, "left") {
            Some(left) => serde_json::from_str(left)
                .map_err(|error| unreadable(&format!("list of what is left ({error})")))?,
            None => Vec::new(),
        };
        Ok(Some(LedgerRecord {
            deployment,
            phase,
            ending,
            left,
            superseded_by: text(&item, "supersededBy").map(ExecutionArn::new),
        }))
    }

    async fn enter(
        &self,
        execution: &ExecutionArn,
        phase: Phase,
    ) -> Result<Result<(), Phase>, PortError> {
        let from: Vec<_> = PHASES
            .into_iter()
            .filter(|from| from.may_become(phase))
            .collect();
        let values: Vec<_> = (0..from.len())
            .map(|index| format!(":from{index}"))
            .collect();
        let mut update = self
            .update(record_id(execution), &["phase"])
            .update_expression("SET #phase = :to")
            .condition_expression(format!("#phase IN ({})", values.join(", ")))
            .expression_attribute_values(":to", AttributeValue::S(phase.to_string()));
        for (value, from) in values.into_iter().zip(from) {
            update = update.expression_attribute_values(value, AttributeValue::S(from.to_string()));
        }
        let item = match self.make(update).await? {
            Ok(_) => return Ok(Ok(())),
            Err(Some(item)) => Some(item),
            Err(None) => self.get(record_id(execution)).await?,
        };
        // A deployment that the ledger does not know is over, as far as it can say: nothing may go on with it.
        Ok(Err(item
            .as_ref()
            .and_then(self::phase)
            .unwrap_or(Phase::Ended)))
    }

    async fn supersede(
        &self,
        execution: &ExecutionArn,
        by: &ExecutionArn,
    ) -> Result<Result<(), Phase>, PortError> {
        let update = self
            .update(record_id(execution), &["phase", "supersededBy"])
            .update_expression("SET #phase = :to, #supersededBy = :by")
            .condition_expression(
                "#phase = :from OR (#phase = :to AND attribute_exists(#supersededBy))",
            )
            .expression_attribute_values(":from", AttributeValue::S(Phase::Running.to_string()))
            .expression_attribute_values(":to", AttributeValue::S(Phase::RollingBack.to_string()))
            .expression_attribute_values(":by", AttributeValue::S(by.to_string()));
        let item = match self.make(update).await? {
            Ok(_) => return Ok(Ok(())),
            Err(Some(item)) => Some(item),
            Err(None) => self.get(record_id(execution)).await?,
        };
        let found = item.as_ref().and_then(self::phase);
        Ok(Err(found.unwrap_or(Phase::Ended)))
    }

    async fn keep_check(
        &self,
        execution: &ExecutionArn,
        number: u32,
        verdict: &Verdict,
    ) -> Result<(), PortError> {
        let mut verdict = verdict.clone();
        verdict.brief();
        let text = serde_json::to_string(&verdict).map_err(|error| {
            let why = format!("the verdict cannot be written as JSON: {error}");
            refused("DynamoDB UpdateItem", why)
        })?;
        let id = evidence_id(execution, number / CHECKS_PER_ITEM);
        self.keep(id, &check_name(number), text, verdict.at).await
    }

    async fn order(&self, execution: &ExecutionArn) -> Result<Option<Wish>, PortError> {
        let item = self.get(order_id(execution)).await?;
        let Some(kept) = item.as_ref().and_then(|item| text(item, "wish")) else {
            return Ok(None);
        };
        serde_json::from_str(kept).map(Some).map_err(|error| {
            let why = format!("what a person wished cannot be read: {error}");
            refused("DynamoDB GetItem", why)
        })
    }

    async fn keep_notice(&self, notice: &Notice) -> Result<(), PortError> {
        let text = serde_json::to_string(notice).map_err(|error| {
            let why = format!("the notice cannot be written as JSON: {error}");
            refused("DynamoDB UpdateItem", why)
        })?;
        let id = history_id(&notice.execution);
        self.keep(id, &notice.id, text, notice.at).await
    }

    async fn call_a_person(
        &self,
        deployment: &Deployment,
        left: &[Leftover],
        now: Timestamp,
    ) -> Result<(), PortError> {
        let left = serde_json::to_string(left).expect("texts can be written as JSON");
        // The phase stays: it says what a person, or another rollback, has to finish. And so does the lock: what needs a person
        // must not be built upon.
        let update = self
            .update(
                record_id(&deployment.execution),
                &["phase", "ending", "endedAt", "left"],
            )
            .update_expression("SET #ending = :ending, #endedAt = :now, #left = :left")
            .condition_expression("attribute_exists(#phase) AND #phase <> :ended")
            .expression_attribute_values(
                ":ending",
                AttributeValue::S(Ending::NeedsAttention.to_string()),
            )
            .expression_attribute_values(":ended", AttributeValue::S(Phase::Ended.to_string()))
            .expression_attribute_values(":left", AttributeValue::S(left))
            .expression_attribute_values(":now", AttributeValue::S(now.to_string()));
        // Without an open record there is nobody whom the list could help.
        self.make(update).await.map(drop)
    }

    async fn reopen(
        &self,
        deployment: &ExecutionArn,
        by: &ExecutionArn,
    ) -> Result<bool, PortError> {
        let update = self
            .update(
                record_id(deployment),
                &["phase", "ending", "endedAt", "left", "reopenedBy"],
            )
            .update_expression("SET #reopenedBy = :by REMOVE #ending, #endedAt, #left")
            .condition_expression(
                "attribute_exists(#phase) AND #phase <> :ended AND (attribute_not_exists(#reopenedBy) OR #reopenedBy <> :by)",
            )
            .expression_attribute_values(":ended", AttributeValue::S(Phase::Ended.to_string()))
            .expression_attribute_values(":by", AttributeValue::S(by.to_string()));
        Ok(self.make(update).await?.is_ok())
    }

    async fn close(
        &self,
        deployment: &Deployment,
        ending: Ending,
        bearer: Option<&ServiceName>,
        now: Timestamp,
    ) -> Result<(), PortError> {
        // The record first: if the lock were given back before a crash, the next deployment could start while this one still
        // looked open. Only a record that is over expires: an open one is all that a recovery knows.
        let update = self
            .update(
                record_id(&deployment.execution),
                &["id", "phase", "ending", "endedAt", "expiresAt", "left"],
            )
            .update_expression(
                "SET #phase = :ended, #ending = :ending, #endedAt = :now, #expiresAt = :expires REMOVE #left",
            )
            .condition_expression("attribute_exists(#id)")
            .expression_attribute_values(":ended", AttributeValue::S(Phase::Ended.to_string()))
            .expression_attribute_values(":ending", AttributeValue::S(ending.to_string()))
            .expression_attribute_values(":expires", self.expires(now))
            .expression_attribute_values(":now", AttributeValue::S(now.to_string()));
        // Without a record there is nothing to end; the lock is given back all the same.
        drop(self.make(update).await?);

        let expression = match bearer {
            Some(_) => "SET #bearer = :bearer REMOVE #execution, #since",
            None => "REMOVE #execution, #since",
        };
        // DynamoDB refuses names and values that the expressions do not use.
        let mut names = vec!["execution", "since"];
        names.extend(bearer.map(|_| "bearer"));
        let mut update = self
            .update(lock_id(&deployment.service), &names)
            .update_expression(expression)
            .condition_expression("#execution = :me")
            .expression_attribute_values(
                ":me",
                AttributeValue::S(deployment.execution.to_string()),
            );
        if let Some(bearer) = bearer {
            update = update
                .expression_attribute_values(":bearer", AttributeValue::S(bearer.to_string()));
        }
        // If the condition fails, it was closed before, and the lock may be another deployment's by now.
        self.make(update).await.map(drop)
    }

    async fn held(&self) -> Result<Vec<HeldLock>, PortError> {
        let mut pages = self
            .dynamo_db
            .scan()
            .table_name(&self.table)
            .index_name(HELD)
            .into_paginator()
            .send();
        let mut held = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(failed("DynamoDB Scan"))?;
            for item in page.items() {
                held.push(held_lock(item).ok_or_else(|| {
                    let id = text(item, "id").unwrap_or("?");
                    refused("DynamoDB Scan", format!("the lock {id} cannot be read"))
                })?);
            }
        }
        Ok(held)
    }

    async fn execution_status(
        &self,
        execution: &ExecutionArn,
    ) -> Result<ExecutionStatus, PortError> {
        match self
            .step_functions
            .describe_execution()
            .execution_arn(execution.as_str())
            .send()
            .await
        {
            Err(error) if has_code(&error, "ExecutionDoesNotExist") => {
                Ok(ExecutionStatus::Forgotten)
            }
            answer => {
                let answer = answer.map_err(failed("Step Functions DescribeExecution"))?;
                Ok(match answer.status.as_str() {
                    "RUNNING" | "PENDING_REDRIVE" => ExecutionStatus::Running,
                    over => ExecutionStatus::Over(over.to_owned()),
                })
            }
        }
    }

    async fn stop_execution(&self, execution: &ExecutionArn, why: &str) -> Result<(), PortError> {
        step_functions::stop(&self.step_functions, execution, "Superseded", why).await
    }
}

/// The attributes of who waits.
const WAITER: [&str; 3] = ["waiting", "waitingStartedAt", "waitingVersion"];

/// A moment as a number, because a text of it does not sort where it has fractions of a second.
fn millisecond(at: Timestamp) -> AttributeValue {
    AttributeValue::N(at.as_millisecond().to_string())
}

fn holder(item: &Item) -> Option<LockHolder> {
    Some(LockHolder {
        execution: ExecutionArn::new(text(item, "execution")?),
        since: text(item, "since")?.parse().ok()?,
    })
}

fn contender(item: &Item, [execution, started_at, version]: [&str; 3]) -> Option<Contender> {
    let started_at = item.get(started_at)?.as_n().ok()?.parse().ok()?;
    Some(Contender {
        execution: ExecutionArn::new(text(item, execution)?),
        started_at: Timestamp::from_millisecond(started_at).ok()?,
        version: text(item, version).map(VersionId::new),
    })
}

impl History for DynamoDbLedger {
    async fn recent(&self, most: u16) -> Result<Vec<Summary>, PortError> {
        const CALL: &str = "DynamoDB Query";
        let answer = self
            .dynamo_db
            .query()
            .table_name(&self.table)
            .index_name(RECENT)
            .key_condition_expression("#listed = :listed")
            .expression_attribute_names("#listed", "listed")
            .expression_attribute_values(":listed", AttributeValue::S(LISTED.to_owned()))
            .scan_index_forward(false)
            .limit(i32::from(most))
            .send()
            .await
            .map_err(failed(CALL))?;
        let summaries = answer.items().iter().map(|item| {
            summary(item).ok_or_else(|| {
                let id = text(item, "id").unwrap_or("?");
                refused(CALL, format!("the record {id} cannot be read"))
            })
        });
        summaries.collect()
    }

    async fn story(&self, execution: &ExecutionArn) -> Result<Story, PortError> {
        let record = self.find(execution).await?;
        let mut request = self.all_kept(request_id(execution)).await?;
        let mut notices: Vec<Notice> = self
            .all_kept(history_id(execution))
            .await?
            .into_values()
            .collect();
        notices.sort_by_key(Notice::place);
        let mut wishes: Vec<Wish> = self
            .all_kept(wishes_id(execution))
            .await?
            .into_values()
            .collect();
        wishes.sort_by_key(|wish| wish.at);
        let mut checks: Vec<Verdict> = Vec::new();
        for place in 0.. {
            let some = self.all_kept(evidence_id(execution, place)).await?;
            if some.is_empty() {
                break;
            }
            checks.extend(some.into_values());
        }
        Ok(Story {
            execution: execution.clone(),
            record,
            request: request.remove(REQUEST),
            notices,
            checks,
            wishes,
        })
    }

    async fn keep_request(
        &self,
        execution: &ExecutionArn,
        request: &Value,
        now: Timestamp,
    ) -> Result<(), PortError> {
        self.keep(request_id(execution), REQUEST, request.to_string(), now)
            .await
    }

    async fn keep_wish(&self, execution: &ExecutionArn, wish: &Wish) -> Result<(), PortError> {
        let text = serde_json::to_string(wish).expect("texts can be written as JSON");
        self.keep(wishes_id(execution), &wish.request_id, text, wish.at)
            .await
    }
}

fn days(days: u16) -> SignedDuration {
    SignedDuration::from_hours(i64::from(days) * 24)
}

fn summary(item: &Item) -> Option<Summary> {
    let moment = |name: &str| text(item, name)?.parse().ok();
    Some(Summary {
        execution: ExecutionArn::new(text(item, "id")?.strip_prefix(RECORD)?),
        service: text(item, "service")?.to_owned(),
        version: text(item, "version")?.to_owned(),
        started_at: moment("startedAt")?,
        ended_at: moment("endedAt"),
        phase: phase(item)?,
        ending: text(item, "ending").and_then(ending),
    })
}

fn held_lock(item: &Item) -> Option<HeldLock> {
    let (cluster, service) = text(item, "id")?.strip_prefix(LOCK)?.split_once('/')?;
    Some(HeldLock {
        service: ServiceKey {
            cluster: ClusterName::new(cluster),
            service: ServiceName::new(service),
        },
        holder: holder(item)?,
    })
}

/// How the ids of the locks begin.
const LOCK: &str = "service#";

fn lock_id(service: &ServiceKey) -> String {
    format!("{LOCK}{service}")
}

/// How the ids of the records begin.
const RECORD: &str = "deployment#";

fn record_id(execution: &ExecutionArn) -> String {
    format!("{RECORD}{execution}")
}

/// The attribute that a request is kept in.
const REQUEST: &str = "request";

fn request_id(execution: &ExecutionArn) -> String {
    format!("request#{execution}")
}

fn wishes_id(execution: &ExecutionArn) -> String {
    format!("wishes#{execution}")
}

fn evidence_id(execution: &ExecutionArn, place: u32) -> String {
    format!("evidence#{execution}#{place}")
}

fn history_id(execution: &ExecutionArn) -> String {
    format!("history#{execution}")
}

/// The attribute of the check of this number.
fn check_name(number: u32) -> String {
    format!("check{number:05}")
}

fn text<'a>(item: &'a Item, name: &str) -> Option<&'a str> {
    item.get(name)?.as_s().ok().map(String::as_str)
}

/// An ending, as [`Ending`]'s `Display` writes it.
fn ending(text: &str) -> Option<Ending> {
    [Ending::Promoted, Ending::RolledBack, Ending::NeedsAttention]
        .into_iter()
        .find(|ending| ending.to_string() == text)
}

fn phase(item: &Item) -> Option<Phase> {
    text(item, "phase")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_read_as_it_was_written() {
        for phase in PHASES {
            let item = Item::from([("phase".to_owned(), AttributeValue::S(phase.to_string()))]);
            assert_eq!(super::phase(&item), Some(phase));
        }
    }

    #[test]
    fn ids_say_what_they_are_of() {
        let service = ServiceKey {
            cluster: serin::ClusterName::new("prod"),
            service: ServiceName::new("checkout"),
        };
        assert_eq!(lock_id(&service), "service#prod/checkout");
        let execution = ExecutionArn::new("arn:x");
        assert_eq!(record_id(&execution), "deployment#arn:x");
        assert_eq!(evidence_id(&execution, 0), "evidence#arn:x#0");
        assert_eq!(
            check_name(417),
            "check00417",
            "so that names sort as numbers do"
        );
    }

    #[test]
    fn a_lock_that_is_held_is_read_as_it_was_written() {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let item = |id: &str| {
            Item::from([
                ("id".to_owned(), text(id)),
                ("execution".to_owned(), text("arn:x")),
                ("since".to_owned(), text("2026-11-21T12:00:00Z")),
            ])
        };
        let held = held_lock(&item("service#prod/checkout")).unwrap();
        assert_eq!(held.service.to_string(), "prod/checkout");
        assert_eq!(held.holder.execution, ExecutionArn::new("arn:x"));
        assert_eq!(held_lock(&item("deployment#arn:x")), None);
    }
}
