//! GitHub on the wire.

mod answers;
mod deliveries;
mod enterprise;
mod job_lists;
mod pace;
mod patience;
mod retries;
mod runners;
mod search;
mod tokens;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use runner_scaler_core::error::{Class, Classify, PortError};
use runner_scaler_core::ids::{Access, InstallationId, JobId, Repository, RunnerId, RunnerName, Scope};
use runner_scaler_core::ports::{
    Delivery, DeliveryLog, Deregistration, JitRequest, JobReading, JobState, Jobs, LogPlace, Registered, Registry,
    RegistryRead,
};
use runner_scaler_core::time::{Clock, Timestamp};
use serde_json::{Value, json};

use crate::SystemClock;
use crate::leaves::warrant;
use crate::wire::{Reply, Seen, Wire};

fn organization() -> Access {
    Access { scope: Scope::Organization { owner: "octo".into() }, installation_id: Some(InstallationId(7)) }
}

fn repository() -> Access {
    let scope = Scope::Repository { owner: "octo".into(), name: "hello".into() };
    Access { scope, installation_id: Some(InstallationId(7)) }
}

fn runner(id: u64) -> Value {
    json!({ "id": id, "name": format!("runner-{id}"), "os": "linux", "status": "online", "busy": false, "labels": [],
        "ephemeral": true, "version": null })
}

fn runners(total: usize, ids: std::ops::Range<u64>) -> Reply {
    let runners: Vec<Value> = ids.map(runner).collect();
    Reply::new(200, json!({ "total_count": total, "runners": runners }))
}

fn next(url: &str) -> String {
    format!(r#"<{url}>; rel="next""#)
}

fn request() -> JitRequest {
    JitRequest { name: RunnerName::new("runner-i-1"), labels: vec!["linux".into()], runner_group_id: 1 }
}

/// The server's own address as a client wrote it.
fn origin(seen: &Seen) -> String {
    format!("http://{}", seen.header("host"))
}

fn hello() -> Repository {
    Repository::try_from("octo/hello".to_owned()).expect("a full name")
}

fn runs(total: usize, ids: std::ops::Range<u64>) -> Reply {
    let runs: Vec<Value> = ids.map(|id| json!({ "id": id, "status": "in_progress" })).collect();
    Reply::new(200, json!({ "total_count": total, "workflow_runs": runs }))
}

fn jobs(total: usize, ids: std::ops::Range<u64>) -> Reply {
    let job = |id| json!({ "id": id, "status": "in_progress", "runner_id": id + 1_000, "completed_at": null });
    let jobs: Vec<Value> = ids.map(job).collect();
    Reply::new(200, json!({ "total_count": total, "jobs": jobs }))
}

fn delivery(id: u64, at: &str, status: u16) -> Value {
    json!({ "id": id, "guid": format!("g{id}"), "delivered_at": at, "redelivery": false, "status": "x",
        "status_code": status, "event": "workflow_job", "action": "in_progress", "installation_id": 7 })
}

async fn delete(adapters: &crate::Adapters) -> Result<Deregistration, PortError> {
    adapters.deregister(warrant(RunnerId(5), organization()).await).await
}
