//! `DynamoDB`: the ledger's table and the table of vital signs.
//!
//! The ledger's table: partition key `pk` = `<kind>#<id>`, sort key `sk` = `v` (constant; room for more under one
//! key), TTL on `expires_at`; index `open` with partition key `open_pk`, sort key `open_sk`, projection ALL, sparse: only
//! records that somebody still has to look at have the two attributes. The table of vital signs: partition key
//! `instance_id`.

mod item;
mod ledger;
mod vital_signs;

use std::collections::HashMap;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use futures_util::FutureExt;
use runner_scaler_core::error::{Class, PortError};

use crate::aws::{Effect, backoff, misshapen, port_error, unbuilt};

pub(crate) use ledger::LedgerTable;

/// An item, or a key, as the SDK has it.
type Attributes = HashMap<String, AttributeValue>;

/// Keys a call, the most that `BatchGetItem` takes (API reference, read 2026-11-20).
const BATCH_KEYS_MAX: usize = 100;

/// Repetitions for keys that `DynamoDB` left unprocessed; with [`backoff`] about 3 s. More, and one read eats the
/// invocation; fewer, and a short throttle fails a pass.
const UNPROCESSED_MAX: u32 = 5;

/// One try. `DynamoDB` answers in milliseconds; what takes longer than this is lost, and a webhook has 10 s in all.
const ATTEMPT: Duration = Duration::from_secs(2);

/// A client with `DynamoDB`'s own time limits.
pub(crate) fn client(config: &SdkConfig) -> Client {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(crate::http::CONNECT_TIMEOUT)
        .operation_attempt_timeout(ATTEMPT)
        .operation_timeout(4 * ATTEMPT)
        .build();
    let config = aws_sdk_dynamodb::config::Builder::from(config).timeout_config(timeouts).build();
    Client::from_conf(config)
}

/// Reads items by their keys, consistently; those that do not exist are left out. The keys must differ.
async fn batch_get(client: &Client, table: &str, keys: Vec<Attributes>) -> Result<Vec<Attributes>, PortError> {
    let mut found = Vec::with_capacity(keys.len());
    for chunk in keys.chunks(BATCH_KEYS_MAX) {
        let call = || format!("BatchGetItem of {} items in {table}", chunk.len());
        let mut wanted = chunk.to_vec();
        for attempt in 1.. {
            let request = KeysAndAttributes::builder()
                .set_keys(Some(wanted))
                .consistent_read(true)
                .build()
                .map_err(|error| unbuilt(call(), &error))?;
            let answer = client
                .batch_get_item()
                .request_items(table, request)
                .send()
                .boxed()
                .await
                .map_err(|error| port_error(call(), Effect::Read, &error))?;
            // Keys that are not there are left out of a table's answer, never the answer itself.
            if answer.responses.is_none() && answer.unprocessed_keys.is_none() {
                return Err(misshapen(call(), Effect::Read, "Responses"));
            }
            found.extend(answer.responses.into_iter().flatten().flat_map(|(_, items)| items));
            let unprocessed = answer.unprocessed_keys.and_then(|mut tables| tables.remove(table));
            wanted = unprocessed.map(|rest| rest.keys).unwrap_or_default();
            if wanted.is_empty() {
                break;
            }
            if attempt > UNPROCESSED_MAX {
                let class = Class::Throttled { retry_after: None };
                return Err(PortError::new(call(), class, format!("{} keys stayed unprocessed", wanted.len())));
            }
            tokio::time::sleep(backoff(attempt)).await;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests;
