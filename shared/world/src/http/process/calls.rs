//! The listener's requests of the broker.
//!
//! Each maps an HTTP answer to what the machine may conclude from it; what is not understood is `Failed`, never absent.

use super::{ListenerProcess, ProcessError};
use crate::instance::{Answer, JitConfig, PollAnswer, SessionAnswer};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// Longer than the broker holds a poll.
const REQUEST: Duration = Duration::from_secs(10);

/// The client of the broker.
pub(super) struct Calls {
    http: Client,
    world_url: String,
    instance_id: String,
}

#[derive(Deserialize)]
struct Session {
    runner_id: u64,
}

impl Calls {
    pub(super) fn new(process: &ListenerProcess) -> Result<Self, ProcessError> {
        // The world counts calls by this name.
        let http = Client::builder().user_agent("app/instance").timeout(REQUEST).build();
        Ok(Self {
            http: http.map_err(ProcessError::Client)?,
            world_url: process.world_url.clone(),
            instance_id: process.instance_id.clone(),
        })
    }

    pub(super) async fn open_session(&self, jit_config: &JitConfig) -> SessionAnswer {
        let body = json!({ "jit_config": jit_config.expose(), "instance_id": self.instance_id });
        let Ok(response) = self.broker("sessions").json(&body).send().await else { return SessionAnswer::Failed };
        match response.status() {
            StatusCode::OK => match response.json::<Session>().await {
                Ok(Session { runner_id }) => SessionAnswer::Opened { runner_id },
                Err(_) => SessionAnswer::Failed,
            },
            StatusCode::NOT_FOUND => SessionAnswer::NotFound,
            StatusCode::CONFLICT => SessionAnswer::Conflict,
            _ => SessionAnswer::Failed,
        }
    }

    pub(super) async fn poll(&self, runner_id: u64) -> PollAnswer {
        let url = format!("{}/broker/messages?runner_id={runner_id}", self.world_url);
        let Ok(response) = self.http.get(url).send().await else { return PollAnswer::Failed };
        match response.status() {
            StatusCode::OK => response.json().await.map_or(PollAnswer::Failed, PollAnswer::Job),
            StatusCode::NO_CONTENT => PollAnswer::Nothing,
            StatusCode::NOT_FOUND => PollAnswer::RunnerNotFound,
            _ => PollAnswer::Failed,
        }
    }

    pub(super) async fn acquire(&self, runner_id: u64, job_id: u64) -> Answer<()> {
        self.of_job(job_id, "acquire", &json!({ "runner_id": runner_id })).await
    }

    pub(super) async fn renew(&self, runner_id: u64, job_id: u64) -> Answer<()> {
        self.of_job(job_id, "renew", &json!({ "runner_id": runner_id })).await
    }

    pub(super) async fn complete(&self, runner_id: u64, job_id: u64, conclusion: &str) -> Answer<()> {
        let body = json!({ "runner_id": runner_id, "conclusion": conclusion });
        self.of_job(job_id, "complete", &body).await
    }

    async fn of_job(&self, job_id: u64, act: &str, body: &Value) -> Answer<()> {
        let Ok(response) = self.broker(&format!("jobs/{job_id}/{act}")).json(body).send().await else {
            return Answer::Failed;
        };
        match response.status() {
            StatusCode::OK => Answer::Found(()),
            // The three refusals of acquirejob that the real listener knows (facts/github.md 1.5).
            StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => Answer::Absent,
            _ => Answer::Failed,
        }
    }

    fn broker(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}/broker/{path}", self.world_url))
    }
}
