//! A verified body to a typed event, within limits. Decides nothing about what should follow.
//!
//! Shapes and traps are those of the payload examples of octokit/webhooks 3a58428 (read 2026-11-20): an action that
//! differs from the status, runner fields on a queued job, null ids, an organisation's webhook without installation.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::ids::{InstallationId, JobId, Repository, RunId, RunnerId, RunnerName};
use crate::time::Timestamp;

/// GitHub's limit for the labels of a runner, far above what a job can use.
const LABELS_MAX: usize = 100;
/// Characters in any text that we keep.
const TEXT_MAX: usize = 256;

/// The largest id that GitHub's own databases hold. A larger one is no id of GitHub's, and would not be read back from
/// the ledger's numbers everywhere.
const ID_MAX: u64 = i64::MAX.unsigned_abs();

/// Why a verified body is not understood; nothing of the body is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// No `X-GitHub-Event`.
    #[error("no event header")]
    NoKind,
    /// Not JSON, or a field that we need is missing, doubled or of another type.
    #[error("the body is not what the event header says: {0:?} error")]
    Shape(serde_json::error::Category),
    /// The header names another kind of event than the body has.
    #[error("event header and body disagree")]
    Contradiction,
    /// A text, a list, a name or an id is outside its limits.
    #[error("{0} is outside its limits")]
    Limit(&'static str),
}

/// What a delivery is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// `workflow_job`
    Job(Box<JobEvent>),
    /// `ping`, which GitHub sends when a webhook is made.
    Ping,
    /// Any other kind.
    Other,
}

/// `action` of a `workflow_job` event: an open set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobAction {
    /// `queued`
    Queued,
    /// `in_progress`: processing started on the runner.
    InProgress,
    /// `completed`
    Completed,
    /// `waiting`: for a deployment to be approved; a `queued` event follows.
    Waiting,
    /// An action that we do not know.
    Other,
}

/// One `workflow_job` event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobEvent {
    /// What happened.
    pub action: JobAction,
    /// The job.
    pub job_id: JobId,
    /// Its run.
    pub run_id: RunId,
    /// Attempt of the run.
    pub run_attempt: u32,
    /// How it ended; an open set.
    pub conclusion: Option<String>,
    /// What it asks of a runner. A job cancelled early may have none.
    pub labels: Vec<String>,
    /// The runner. 0 and null are both "none"; GitHub fills it in only sometimes while the job is queued.
    pub runner_id: Option<RunnerId>,
    /// The runner's name; empty and null are both "none".
    pub runner_name: Option<RunnerName>,
    /// Its repository.
    pub repository: Repository,
    /// The repository's id, which no renaming changes; payloads of GitHub's have it.
    pub repository_id: Option<u64>,
    /// The id of the repository's owner.
    pub owner_id: Option<u64>,
    /// Login of the owner, where the owner is an organisation.
    pub organization: Option<String>,
    /// The installation; an organisation's own webhook names none.
    pub installation_id: Option<InstallationId>,
    /// When GitHub made the job, where the payload says so.
    pub created_at: Option<Timestamp>,
}

/// Reads a body whose signature was verified, or that GitHub's own API handed out.
///
/// `kind` is `X-GitHub-Event`. It is not signed, so it has to agree with the body.
pub fn parse(kind: Option<&str>, body: &[u8]) -> Result<Event, EventError> {
    let kind = kind.ok_or(EventError::NoKind)?;
    if kind == "workflow_job" {
        return Ok(Event::Job(Box::new(job_event(from_json(body)?)?)));
    }
    let envelope: Envelope = from_json(body)?;
    match (envelope.workflow_job, envelope.zen, kind) {
        (Some(IgnoredAny), _, _) | (None, None, "ping") => Err(EventError::Contradiction),
        (None, Some(IgnoredAny), "ping") => Ok(Event::Ping),
        (None, _, _) => Ok(Event::Other),
    }
}

#[derive(Deserialize)]
struct Envelope {
    workflow_job: Option<IgnoredAny>,
    zen: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Payload {
    action: String,
    workflow_job: JobPayload,
    repository: RepositoryPayload,
    organization: Option<AccountPayload>,
    installation: Option<InstallationPayload>,
}

#[derive(Deserialize)]
struct JobPayload {
    id: u64,
    run_id: u64,
    run_attempt: Option<u32>,
    conclusion: Option<String>,
    labels: Option<Vec<String>>,
    runner_id: Option<u64>,
    runner_name: Option<String>,
    created_at: Option<String>,
    started_at: Option<String>,
}

#[derive(Deserialize)]
struct RepositoryPayload {
    id: Option<u64>,
    full_name: String,
    owner: AccountPayload,
}

#[derive(Deserialize)]
struct AccountPayload {
    id: Option<u64>,
    login: String,
    #[serde(rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct InstallationPayload {
    id: u64,
}

fn from_json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, EventError> {
    serde_json::from_slice(body).map_err(|error| EventError::Shape(error.classify()))
}

fn job_event(payload: Payload) -> Result<JobEvent, EventError> {
    let Payload { action, workflow_job: job, repository, organization, installation } = payload;
    let organization = match organization {
        Some(organization) => Some(organization.login),
        None if repository.owner.kind.as_deref() == Some("Organization") => Some(repository.owner.login),
        None => None,
    };
    let labels = job.labels.unwrap_or_default();
    if labels.len() > LABELS_MAX || !labels.iter().all(|label| !label.is_empty() && label.len() <= TEXT_MAX) {
        return Err(EventError::Limit("labels"));
    }
    Ok(JobEvent {
        action: match action.as_str() {
            "queued" => JobAction::Queued,
            "in_progress" => JobAction::InProgress,
            "completed" => JobAction::Completed,
            "waiting" => JobAction::Waiting,
            _ => JobAction::Other,
        },
        job_id: JobId(id("job id", job.id)?),
        run_id: RunId(id("run_id", job.run_id)?),
        run_attempt: job.run_attempt.unwrap_or(1),
        conclusion: short("conclusion", job.conclusion)?,
        labels,
        runner_id: job.runner_id.filter(|id| *id != 0).map(|runner| id("runner_id", runner)).transpose()?.map(RunnerId),
        runner_name: short("runner_name", job.runner_name)?.map(RunnerName::new),
        repository_id: repository.id,
        owner_id: repository.owner.id,
        repository: Repository::try_from(repository.full_name).map_err(|_| EventError::Limit("full_name"))?,
        organization: organization.map(login).transpose()?,
        installation_id: installation
            .map(|installation| id("installation id", installation.id).map(InstallationId))
            .transpose()?,
        created_at: job.created_at.or(job.started_at).and_then(|text| Timestamp::parse(&text)),
    })
}

fn id(field: &'static str, id: u64) -> Result<u64, EventError> {
    if (1..=ID_MAX).contains(&id) { Ok(id) } else { Err(EventError::Limit(field)) }
}

fn short(field: &'static str, text: Option<String>) -> Result<Option<String>, EventError> {
    match text.filter(|text| !text.is_empty()) {
        Some(text) if text.len() > TEXT_MAX => Err(EventError::Limit(field)),
        other => Ok(other),
    }
}

/// A login becomes part of an API path, so it is checked as a repository's owner is.
fn login(text: String) -> Result<String, EventError> {
    Repository::try_from(format!("{text}/x")).map_err(|_| EventError::Limit("login"))?;
    Ok(text)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    macro_rules! payload {
        ($path:literal) => {
            include_bytes!(concat!("../../tests/payloads/", $path)).as_slice()
        };
    }

    pub(crate) const QUEUED: &[u8] = payload!("workflow_job/queued.payload.json");
    pub(crate) const QUEUED_WITH_DEPLOYMENT: &[u8] = payload!("workflow_job/queued.with-deployment.payload.json");
    pub(crate) const WAITING: &[u8] = payload!("workflow_job/waiting.payload.json");
    pub(crate) const IN_PROGRESS: &[u8] = payload!("workflow_job/in_progress.payload.json");
    pub(crate) const IN_PROGRESS_STEPS: &[u8] = payload!("workflow_job/in_progress.with-queued-steps.payload.json");
    pub(crate) const SUCCESS: &[u8] = payload!("workflow_job/completed.success.with-organization.payload.json");
    pub(crate) const FAILURE: &[u8] = payload!("workflow_job/completed.failure.with-organization.payload.json");

    pub(crate) const OTHERS: [(&str, &[u8]); 5] = [
        ("ping", payload!("other/ping.json")),
        ("push", payload!("other/push.json")),
        ("check_run", payload!("other/check_run.completed.json")),
        ("installation", payload!("other/installation.created.json")),
        ("workflow_run", payload!("other/workflow_run.completed.json")),
    ];

    pub(crate) fn job(body: &[u8]) -> JobEvent {
        match parse(Some("workflow_job"), body).expect("a payload of GitHub's") {
            Event::Job(event) => *event,
            Event::Ping | Event::Other => panic!("not a job"),
        }
    }

    /// The queued example with one value replaced.
    fn with(pointer: &str, value: serde_json::Value) -> Vec<u8> {
        let mut payload: serde_json::Value = serde_json::from_slice(QUEUED).expect("JSON");
        *payload.pointer_mut(pointer).expect("a field of the example") = value;
        serde_json::to_vec(&payload).expect("JSON")
    }

    #[test]
    fn every_real_payload_is_read() {
        use JobAction::{Completed, InProgress, Queued, Waiting};
        let org = Some("Octocoders");
        for (case, body, action, job_id, runner_id, organization, installation) in [
            ("queued, filled with a runner", QUEUED, Queued, 289_782_451, Some(5), org, Some(3_456_996)),
            ("queued, status waiting", QUEUED_WITH_DEPLOYMENT, Queued, 12_877_621_891, None, None, Some(23_154_469)),
            ("waiting", WAITING, Waiting, 12_877_621_891, None, None, Some(23_154_469)),
            ("in progress, no organisation", IN_PROGRESS, InProgress, 289_782_451, Some(5), org, Some(1)),
            ("in progress", IN_PROGRESS_STEPS, InProgress, 14_541_957_942, Some(6), None, Some(3_456_996)),
            ("success, no installation", SUCCESS, Completed, 289_782_451, Some(5), org, None),
            ("failure, no installation", FAILURE, Completed, 289_782_451, Some(5), org, None),
        ] {
            let event = job(body);
            assert_eq!(event.action, action, "{case}");
            assert_eq!(event.job_id, JobId(job_id), "{case}");
            assert_eq!(event.runner_id, runner_id.map(RunnerId), "{case}");
            assert_eq!(event.organization.as_deref(), organization, "{case}");
            assert_eq!(event.installation_id, installation.map(InstallationId), "{case}");
            assert!(event.created_at.is_some() && !event.labels.is_empty(), "{case}");
        }
        assert_eq!(job(SUCCESS).conclusion.as_deref(), Some("success"));
        assert_eq!(job(FAILURE).conclusion.as_deref(), Some("failure"));
        for (kind, body) in OTHERS {
            let expected = if kind == "ping" { Event::Ping } else { Event::Other };
            assert_eq!(parse(Some(kind), body), Ok(expected), "{kind}");
        }
    }

    #[test]
    fn a_body_that_is_not_what_the_header_says_is_refused() {
        let doubled = br#"{"action":"queued","action":"completed","workflow_job":{}}"#;
        let deep = "[".repeat(100_000);
        for (case, kind, body, expected) in [
            ("no header", None, QUEUED, Some(EventError::NoKind)),
            ("a job under another header", Some("push"), QUEUED, Some(EventError::Contradiction)),
            ("a job under ping", Some("ping"), QUEUED, Some(EventError::Contradiction)),
            ("a push under ping", Some("ping"), OTHERS[1].1, Some(EventError::Contradiction)),
            ("a push under workflow_job", Some("workflow_job"), OTHERS[1].1, None),
            ("nothing", Some("workflow_job"), b"", None),
            ("half a body", Some("workflow_job"), &QUEUED[..1_000], None),
            ("no JSON", Some("push"), b"payload=%7B%7D", None),
            ("invalid UTF-8", Some("workflow_job"), b"{\"action\":\"\xff\"}", None),
            ("a list", Some("workflow_job"), b"[]", None),
            ("a field twice", Some("workflow_job"), doubled, None),
            ("nested without end", Some("push"), deep.as_bytes(), None),
        ] {
            let error = parse(kind, body).expect_err(case);
            match expected {
                Some(expected) => assert_eq!(error, expected, "{case}"),
                None => assert!(matches!(error, EventError::Shape(_)), "{case}: {error}"),
            }
        }
    }

    #[test]
    fn a_field_that_we_use_is_refused_when_it_comes_twice_however_it_is_spelt() {
        let text = std::str::from_utf8(QUEUED).expect("UTF-8");
        for (field, value) in [
            ("action", r#""completed""#),
            ("workflow_job", "{}"),
            ("repository", "{}"),
            ("organization", "null"),
            ("installation", "null"),
        ] {
            let escaped = format!("\\u{:04x}{}", u32::from(field.as_bytes()[0]), &field[1..]);
            for spelt in [field, &escaped] {
                // First and last, so that the field comes twice whether or not the example has it.
                let twice = text.replacen('{', &format!(r#"{{"{spelt}": {value}, "{field}": {value}, "#), 1);
                let got = parse(Some("workflow_job"), twice.as_bytes());
                assert_eq!(got, Err(EventError::Shape(serde_json::error::Category::Data)), "{spelt}");
            }
        }
        for (parent, field, value) in [
            ("workflow_job", "id", "1"),
            ("workflow_job", "run_id", "1"),
            ("workflow_job", "run_attempt", "1"),
            ("workflow_job", "conclusion", "null"),
            ("workflow_job", "labels", "[]"),
            ("workflow_job", "runner_id", "1"),
            ("workflow_job", "runner_name", "null"),
            ("workflow_job", "created_at", "null"),
            ("workflow_job", "started_at", "null"),
            ("repository", "id", "1"),
            ("repository", "full_name", r#""octo/hello""#),
            ("repository", "owner", "{}"),
            ("installation", "id", "1"),
        ] {
            let opening = format!(r#""{parent}": {{"#);
            assert!(text.contains(&opening), "{parent}");
            let twice = text.replacen(&opening, &format!(r#"{opening}"{field}": {value}, "{field}": {value}, "#), 1);
            let got = parse(Some("workflow_job"), twice.as_bytes());
            assert_eq!(got, Err(EventError::Shape(serde_json::error::Category::Data)), "{parent}.{field}");
        }
    }

    #[test]
    fn what_we_do_not_use_may_be_deep_or_strange_and_what_we_use_may_not() {
        let text = std::str::from_utf8(QUEUED).expect("UTF-8");
        let with_extra = |value: &str| text.replacen('{', &format!(r#"{{"extra": {value}, "#), 1);
        let deep = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        for (case, value) in [
            ("nested a hundred thousand times", deep(100_000)),
            ("emoji and a lone surrogate's neighbour", r#""\ud83d\ude80 ünïcode""#.to_owned()),
            ("a number beyond all types", format!("1{}", "0".repeat(300))),
        ] {
            let got = parse(Some("workflow_job"), with_extra(&value).as_bytes());
            assert_eq!(got, parse(Some("workflow_job"), QUEUED), "{case}");
        }
        for (case, body) in [
            ("a lone surrogate in a field we use", text.replacen("ubuntu-latest", r"\ud83d", 1)),
            ("a label that is a list, nested", text.replacen(r#""ubuntu-latest""#, &deep(1_000), 1)),
            ("text after the end", format!("{text} {{}}")),
            ("a byte order mark", format!("\u{feff}{text}")),
        ] {
            let got = parse(Some("workflow_job"), body.as_bytes());
            assert!(matches!(got, Err(EventError::Shape(_))), "{case}: {got:?}");
        }
        let label = job(text.replacen("ubuntu-latest", "läbel-🚀", 1).as_bytes()).labels;
        assert_eq!(label, ["läbel-🚀"], "labels are text of any script");
    }

    #[test]
    fn limits_hold_and_null_is_not_an_id() {
        use serde_json::json;
        for (case, pointer, value, field) in [
            ("101 labels", "/workflow_job/labels", json!(vec!["a"; 101]), "labels"),
            ("a label of 257", "/workflow_job/labels", json!(["a".repeat(257)]), "labels"),
            ("an empty label", "/workflow_job/labels", json!([""]), "labels"),
            ("a long runner name", "/workflow_job/runner_name", json!("a".repeat(257)), "runner_name"),
            ("a path for a repository", "/repository/full_name", json!("../../orgs"), "full_name"),
            ("a path for a login", "/repository/owner/login", json!("a/../b"), "login"),
        ] {
            let got = parse(Some("workflow_job"), &with(pointer, value));
            assert_eq!(got, Err(EventError::Limit(field)), "{case}");
        }
        for (case, value) in
            [("text", json!("7")), ("negative", json!(-7)), ("null", json!(null)), ("float", json!(7.5))]
        {
            assert!(parse(Some("workflow_job"), &with("/workflow_job/id", value)).is_err(), "a job id that is {case}");
        }
        for (case, pointer, field) in [
            ("a job", "/workflow_job/id", "job id"),
            ("a run", "/workflow_job/run_id", "run_id"),
            ("an installation", "/installation/id", "installation id"),
        ] {
            for number in [0, 1 << 63, u64::MAX] {
                let got = parse(Some("workflow_job"), &with(pointer, json!(number)));
                assert_eq!(got, Err(EventError::Limit(field)), "{case} with id {number}");
            }
            assert!(parse(Some("workflow_job"), &with(pointer, json!(i64::MAX))).is_ok(), "{case} with the largest id");
        }
        let runner = parse(Some("workflow_job"), &with("/workflow_job/runner_id", json!(u64::MAX)));
        assert_eq!(runner, Err(EventError::Limit("runner_id")));
        assert_eq!(job(&with("/workflow_job/runner_id", json!(0))).runner_id, None);
        assert_eq!(job(&with("/workflow_job/runner_id", json!(null))).runner_id, None);
        assert_eq!(job(&with("/workflow_job/runner_name", json!(""))).runner_name, None);
        assert_eq!(job(&with("/workflow_job/labels", json!(null))).labels, Vec::<String>::new());
        assert_eq!(job(&with("/action", json!("renamed"))).action, JobAction::Other);
    }
}
