//! `--keep`: a delivery that the person sends by hand, and how.

use std::path::{Path, PathBuf};

use runner_scaler_world::World;
use runner_scaler_world::github::PayloadError;

use crate::failure::Failure;
use crate::local::scenario;

/// How long the job of the hand-made delivery runs, in milliseconds.
const DURATION_MS: i64 = 5_000;

/// Queues a job whose delivery GitHub does not send, for the person to send it; the delivery's body in a file.
///
/// With the real payload as it is when nothing was played yet, else with another job id, for GitHub has had that job.
pub(crate) fn prepare_delivery(world: &mut World, folder: &Path) -> Result<PathBuf, Failure> {
    let body = scenario::real_payload();
    let body = match adopt(world, body) {
        Ok(()) => body.to_vec(),
        Err(PayloadError::Exists(_)) => {
            let other = scenario::payload_with_job_id(289_782_452).map_err(|_| shape())?;
            adopt(world, &other).map_err(|_| shape())?;
            other
        }
        Err(PayloadError::Json(_) | PayloadError::Field(_) | PayloadError::NotInstalled(_)) => return Err(shape()),
    };
    let path = folder.join("delivery.json");
    std::fs::write(&path, body).map_err(Failure::io(format!("cannot write {}", path.display())))?;
    Ok(path)
}

/// GitHub has the job and loses its delivery.
fn adopt(world: &mut World, body: &[u8]) -> Result<(), PayloadError> {
    let (github, mut cx) = world.github();
    let usual = std::mem::replace(&mut github.settings_mut().lose_webhooks, 1.0);
    let added = github.add_job_from_payload(&mut cx, body, DURATION_MS);
    github.settings_mut().lose_webhooks = usual;
    added.map(|_| ())
}

fn shape() -> Failure {
    Failure::Shape { what: "the payload".to_owned() }
}

/// What a person can do with the running stack.
pub(crate) fn instructions(
    webhook_url: &str,
    secret: &str,
    world_url: &str,
    emulator_url: &str,
    body: &Path,
) -> String {
    let body = body.display();
    format!(
        r#"
Everything keeps running; Ctrl-C ends it.

Sign a real delivery and send it (202, and its job's life appears here), then with one byte changed (401):

  WEBHOOK={webhook_url}
  SECRET={secret}
  BODY={body}
  sign() {{ openssl dgst -sha256 -hmac "$SECRET" -hex "$1" | sed 's/^.* /sha256=/'; }}
  send() {{ curl -sS -o /dev/null -w '%{{http_code}}\n' --data-binary "@$1" -H "X-Hub-Signature-256: $2" \
    -H 'X-GitHub-Event: workflow_job' -H 'X-GitHub-Delivery: 6e8b6e20-0000-4000-8000-000000000001' \
    -H 'Content-Type: application/json' "$WEBHOOK"; }}
  send "$BODY" "$(sign "$BODY")"
  sed '1s/{{/[/' "$BODY" > "$BODY.changed"; send "$BODY.changed" "$(sign "$BODY")"

Look at the world, and at AWS (the emulator takes any credentials):

  curl -sS {world_url}/control/state
  AWS_ENDPOINT_URL={emulator_url} aws sqs list-queues
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_scaler_world::{Settings, Tape};

    #[test]
    fn a_hand_made_delivery_has_a_job_and_is_not_sent_by_github() {
        let folder = std::env::temp_dir();
        let mut world = World::new(Settings::local(), Tape::from_seed(1), 0);
        let first = std::fs::read(prepare_delivery(&mut world, &folder).unwrap()).unwrap();
        assert_eq!(first, scenario::real_payload(), "untouched");
        let path = prepare_delivery(&mut world, &folder).unwrap();
        assert_ne!(std::fs::read(&path).unwrap(), first, "another job");
        std::fs::remove_file(path).unwrap();
        let (github, _) = world.github();
        assert_eq!((github.jobs().count(), github.pending_deliveries().count()), (2, 0));
        assert!(github.settings().lose_webhooks.abs() < f64::EPSILON);
    }
}
