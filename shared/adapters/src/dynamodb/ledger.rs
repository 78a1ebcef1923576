//! [`Ledger`]: consistent reads, compare-and-swap writes.
//!
//! A write is tried again here and not in the SDK, for only who knows that an earlier try may have taken effect can
//! tell "somebody else wrote" from "my first try wrote and its answer was lost".

use std::collections::BTreeSet;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::Builder;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{Put, ReturnValuesOnConditionCheckFailure, TransactWriteItem};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::FutureExt;
use ring::rand::{SecureRandom, SystemRandom};
use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ports::{Expect, Item, Key, Ledger, OpenPartition, Write};
use runner_scaler_core::time::Timestamp;

use super::item::{decode, encode, key_attributes, number, open_time, text};
use super::{Attributes, batch_get};
use crate::Adapters;
use crate::aws::{Effect, backoff, class_of, port_error, unbuilt};

/// Tries of one write. More, and a webhook misses its 10 s; fewer, and one lost packet fails a delivery.
const ATTEMPTS_MAX: u32 = 3;

/// The ledger's table.
#[derive(Clone, Debug)]
pub(crate) struct LedgerTable {
    client: Client,
    name: String,
}

/// A try that did not succeed.
struct Refusal {
    error: PortError,
    /// What the table holds instead, where `DynamoDB` says so in the same breath.
    held: Option<Item>,
}

impl Refusal {
    fn of(error: PortError) -> Self {
        Self { error, held: None }
    }
}

impl Ledger for Adapters {
    async fn read(&self, keys: &[Key]) -> Result<Vec<Item>, PortError> {
        self.ledger().read(keys).await
    }

    async fn write(&self, writes: &[Write]) -> Result<(), PortError> {
        self.ledger().write(writes).await
    }

    async fn open(&self, partition: &OpenPartition, until: Timestamp, limit: usize) -> Result<Vec<Item>, PortError> {
        self.ledger().open(partition, until, limit).await
    }
}

impl Ledger for LedgerTable {
    async fn read(&self, keys: &[Key]) -> Result<Vec<Item>, PortError> {
        // BatchGetItem refuses a call that names a key twice.
        let keys: BTreeSet<&Key> = keys.iter().collect();
        let keys = keys.into_iter().map(key_attributes).collect();
        let items = batch_get(&self.client, &self.name, keys).await?;
        Ok(items.iter().filter_map(decode).collect())
    }

    async fn write(&self, writes: &[Write]) -> Result<(), PortError> {
        let token = request_token()?;
        let mut may_have_written = false;
        let mut attempt = 1;
        loop {
            let Refusal { error, held } = match self.write_once(writes, &token).await {
                Ok(()) => return Ok(()),
                Err(refusal) => refusal,
            };
            may_have_written |= error.class == Class::OutcomeUnknown;
            let refused = match error.class {
                Class::OutcomeUnknown | Class::Transient | Class::Throttled { .. } => false,
                Class::Conflict
                | Class::NoCapacity
                | Class::Rejected
                | Class::Absent
                | Class::Denied
                | Class::Misconfigured => true,
            };
            if may_have_written {
                let ours = match held {
                    Some(held) => Ok(writes.iter().all(|write| is_of(write, &held))),
                    None => self.holds(writes).await,
                };
                match ours {
                    Ok(true) => return Ok(()),
                    Ok(false) if refused => return Err(error),
                    Ok(false) if attempt < ATTEMPTS_MAX => {}
                    Ok(false) | Err(_) => return Err(PortError { class: Class::OutcomeUnknown, ..error }),
                }
            } else if refused || attempt == ATTEMPTS_MAX {
                return Err(error);
            }
            tokio::time::sleep(backoff(attempt)).await;
            attempt += 1;
        }
    }

    async fn open(&self, partition: &OpenPartition, until: Timestamp, limit: usize) -> Result<Vec<Item>, PortError> {
        let call = || format!("Query open {partition}");
        let mut items = Vec::new();
        let mut start: Option<Attributes> = None;
        while items.len() < limit {
            let page_size = i32::try_from(limit - items.len()).unwrap_or(i32::MAX);
            let page = self
                .client
                .query()
                .table_name(&self.name)
                .index_name("open")
                .key_condition_expression("open_pk = :partition AND open_sk < :end")
                .expression_attribute_values(":partition", text(partition.to_string()))
                .expression_attribute_values(":end", text(open_time(Timestamp(until.0.saturating_add(1)))))
                .limit(page_size)
                .set_exclusive_start_key(start)
                .send()
                .boxed()
                .await
                .map_err(|error| port_error(call(), Effect::Read, &error))?;
            items.extend(page.items().iter().filter_map(decode));
            start = page.last_evaluated_key;
            if start.is_none() {
                break;
            }
        }
        items.truncate(limit);
        Ok(items)
    }
}

impl LedgerTable {
    /// That table.
    pub(crate) fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into() }
    }

    async fn write_once(&self, writes: &[Write], token: &str) -> Result<(), Refusal> {
        match writes {
            [] => Ok(()),
            [write] => put(&self.client, &self.name, write).await,
            several => transact(&self.client, &self.name, several, token).await.map_err(Refusal::of),
        }
    }

    /// Whether the table holds these very items: then a try of ours wrote them, or somebody wrote the same.
    async fn holds(&self, writes: &[Write]) -> Result<bool, PortError> {
        let keys: Vec<Key> = writes.iter().map(|write| write.item.key.clone()).collect();
        let stored = self.read(&keys).await?;
        Ok(writes.iter().all(|write| stored.iter().any(|item| is_of(write, item))))
    }
}

/// Whether the item is the one that the write would store.
fn is_of(write: &Write, item: &Item) -> bool {
    (&item.key, item.version, &item.body) == (&write.item.key, write.item.version, &write.item.body)
}

/// One for all tries of a write: a transaction whose first try took effect then answers success to the second, whoever
/// wrote in between (API reference, `ClientRequestToken`: good for 10 min, at most 36 characters; read 2026-11-20).
fn request_token() -> Result<String, PortError> {
    let mut unique = [0_u8; 16];
    let random = || PortError::new("TransactWriteItems", Class::Transient, "no randomness for the request token");
    SystemRandom::new().fill(&mut unique).map_err(|_| random())?;
    Ok(URL_SAFE_NO_PAD.encode(unique))
}

async fn put(client: &Client, table: &str, write: &Write) -> Result<(), Refusal> {
    let mut put = client
        .put_item()
        .table_name(table)
        .set_item(Some(encode(&write.item)))
        .condition_expression(condition(write.expect))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
    if let Expect::Version(version) = write.expect {
        put = put.expression_attribute_values(":version", number(version));
    }
    put.customize().config_override(once()).send().boxed().await.map(|_| ()).map_err(|error| Refusal {
        held: held(&error),
        error: port_error(format!("PutItem {}", write.item.key), Effect::Change, &error),
    })
}

/// What lay there instead, read by `DynamoDB` in the very moment of the refusal.
fn held<R>(error: &SdkError<PutItemError, R>) -> Option<Item> {
    let Some(PutItemError::ConditionalCheckFailedException(failed)) = error.as_service_error() else { return None };
    failed.item().and_then(decode)
}

async fn transact(client: &Client, table: &str, writes: &[Write], token: &str) -> Result<(), PortError> {
    let call = || {
        let keys: Vec<String> = writes.iter().map(|write| write.item.key.to_string()).collect();
        format!("TransactWriteItems {}", keys.join(", "))
    };
    let mut items = Vec::with_capacity(writes.len());
    for write in writes {
        let mut put = Put::builder()
            .table_name(table)
            .set_item(Some(encode(&write.item)))
            .condition_expression(condition(write.expect));
        if let Expect::Version(version) = write.expect {
            put = put.expression_attribute_values(":version", number(version));
        }
        let put = put.build().map_err(|error| unbuilt(call(), &error))?;
        items.push(TransactWriteItem::builder().put(put).build());
    }
    let sent = client.transact_write_items().client_request_token(token).set_transact_items(Some(items));
    match sent.customize().config_override(once()).send().boxed().await {
        Ok(_) => Ok(()),
        Err(error) => Err(match cancelled(&error) {
            Some(class) => PortError::new(call(), class, "the transaction was cancelled"),
            None => port_error(call(), Effect::Change, &error),
        }),
    }
}

/// Class of a cancelled transaction: of its items' reasons the one that forbids most, for a conflict is not mended by
/// waiting and a mistake not by reading again.
fn cancelled<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<Class> {
    let Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) = error.as_service_error() else {
        return None;
    };
    let classes: Vec<Class> = cancelled
        .cancellation_reasons()
        .iter()
        .filter_map(|reason| reason.code())
        .filter(|code| *code != "None")
        .map(|code| class_of(code, Some(400), Effect::Change))
        .collect();
    let any = |wanted: Class| classes.contains(&wanted).then_some(wanted);
    any(Class::Rejected).or_else(|| any(Class::Conflict)).or_else(|| classes.first().copied()).or(Some(Class::Conflict))
}

fn condition(expect: Expect) -> &'static str {
    match expect {
        Expect::Absent => "attribute_not_exists(pk)",
        Expect::Version(_) => "version = :version",
    }
}

fn once() -> Builder {
    Builder::default().retry_config(RetryConfig::disabled())
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::types::CancellationReason;
    use aws_sdk_dynamodb::types::error::TransactionCanceledException;

    use super::*;

    #[test]
    fn a_cancelled_transaction_has_the_class_of_its_gravest_reason() {
        let throttled = Class::Throttled { retry_after: None };
        for (case, reasons, expected) in [
            ("one condition failed", vec!["None", "ConditionalCheckFailed"], Class::Conflict),
            ("another transaction holds an item", vec!["TransactionConflict", "None"], Class::Conflict),
            ("only throttled", vec!["None", "ThrottlingError"], throttled),
            ("throttled and a condition failed", vec!["ThrottlingError", "ConditionalCheckFailed"], Class::Conflict),
            ("an item is invalid", vec!["ConditionalCheckFailed", "ValidationError"], Class::Rejected),
            ("no reason is given", vec![], Class::Conflict),
        ] {
            let reasons = reasons.into_iter().map(|code| CancellationReason::builder().code(code).build());
            let exception =
                TransactionCanceledException::builder().set_cancellation_reasons(Some(reasons.collect())).build();
            let error = SdkError::service_error(TransactWriteItemsError::TransactionCanceledException(exception), ());
            assert_eq!(cancelled(&error), Some(expected), "{case}");
        }
    }
}
