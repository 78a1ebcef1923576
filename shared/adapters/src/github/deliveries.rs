//! GitHub's log of the App's deliveries: [`DeliveryLog`], and [`Redelivery`].

use std::time::Duration;

use http::StatusCode;
use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ids::{DeliveryGuid, InstallationId};
use runner_scaler_core::ports::{Delivery, DeliveryLog, FailedDeliveries, LogPlace, Redelivery};
use runner_scaler_core::time::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Call;
use super::pages::next_link;
use crate::Adapters;
use crate::aws::{Effect, misshapen};

#[derive(Deserialize)]
struct DeliveryBody {
    id: u64,
    guid: DeliveryGuid,
    delivered_at: String,
    /// 0 where our webhook did not answer at all.
    status_code: i64,
    event: String,
    action: Option<String>,
    installation_id: Option<InstallationId>,
}

#[derive(Deserialize)]
struct DetailBody {
    request: RequestBody,
}

#[derive(Deserialize)]
struct RequestBody {
    payload: Option<Value>,
}

#[derive(Deserialize)]
struct InstallationBody {
    /// Null once it is deleted; an enterprise has no login.
    account: Option<AccountBody>,
}

#[derive(Deserialize)]
struct AccountBody {
    login: Option<String>,
}

impl DeliveryLog for Adapters {
    fn log_kept(&self) -> Duration {
        self.environment().delivery_log_kept()
    }

    async fn failed_deliveries_since(
        &self,
        since: Timestamp,
        from: Option<&LogPlace>,
    ) -> Result<FailedDeliveries, PortError> {
        let newest = "/app/hook/deliveries?status=failure&per_page=100";
        let call = Call::get(from.map_or(newest, LogPlace::as_str));
        let answer = self.github().as_app(&call).await?;
        let page: Vec<DeliveryBody> = answer.expect(&call, StatusCode::OK)?;
        let mut deliveries = Vec::new();
        let mut newest = None;
        for body in page {
            // GitHub Enterprise Server releases that do not know the filter show all.
            let succeeded = (200..300).contains(&body.status_code);
            let delivery =
                delivery_of(body).ok_or_else(|| misshapen(call.name(), Effect::Read, "readable delivered_at"))?;
            newest = newest.max(Some(delivery.delivered_at));
            if !succeeded && delivery.delivered_at >= since {
                deliveries.push(delivery);
            }
        }
        // Newest first, as far as GitHub shows, but nobody promises it of every entry: only a page of which all are too old
        // says so of those that follow. One that stands in the wrong place must not hide what comes after it.
        let next = next_link(&answer.headers).filter(|_| newest.is_none_or(|newest| newest >= since));
        if next.as_ref() == Some(&call.target) {
            return Err(PortError::new(call.name(), Class::Transient, "the pages lead in a circle"));
        }
        Ok(FailedDeliveries { deliveries, next: next.map(LogPlace::new) })
    }

    async fn installation_owner(&self, id: InstallationId) -> Result<Option<String>, PortError> {
        let call = Call::get(format!("/app/installations/{id}"));
        let answer = self.github().as_app(&call).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        let found: InstallationBody = answer.expect(&call, StatusCode::OK)?;
        Ok(found.account.and_then(|account| account.login))
    }

    async fn delivery_payload(&self, id: u64) -> Result<String, PortError> {
        let call = Call::get(format!("/app/hook/deliveries/{id}"));
        let detail: DetailBody = self.github().as_app(&call).await?.expect(&call, StatusCode::OK)?;
        let payload = detail.request.payload.ok_or_else(|| misshapen(call.name(), Effect::Read, "payload"))?;
        // Shown as text it is the JSON itself; written out as a JSON value that text would be encoded twice.
        Ok(if let Value::String(text) = payload { text } else { payload.to_string() })
    }
}

impl Redelivery for Adapters {
    /// 202: GitHub makes the attempt some time later. 400 and 422 are its refusals (`OpenAPI` description, read
    /// 2026-11-26); the attempt may be too old.
    async fn redeliver(&self, id: u64) -> Result<(), PortError> {
        let call = Call::post(format!("/app/hook/deliveries/{id}/attempts"), json!({}));
        let answer = self.github().as_app(&call).await?;
        if answer.status == StatusCode::ACCEPTED { Ok(()) } else { Err(answer.error(&call)) }
    }
}

fn delivery_of(body: DeliveryBody) -> Option<Delivery> {
    Some(Delivery {
        id: body.id,
        guid: body.guid,
        delivered_at: Timestamp::parse(&body.delivered_at)?,
        event: body.event,
        action: body.action,
        installation_id: body.installation_id,
    })
}
