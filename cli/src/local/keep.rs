//! `--keep`: a delivery that the person sends by hand, and how.

use std::path::{Path, PathBuf};

use runner_scaler_world::World;
use runner_scaler_world::github::PayloadError;

use crate::failure::Failure;
use crate::local::scenario;

/// The file with the delivery's body, in the run's folder.
const PAYLOAD: &str = "payload.json";

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
    let path = folder.join(PAYLOAD);
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

/// What a person can do with the running stack: lines to be pasted into a shell.
pub(crate) fn instructions(
    webhook_url: &str,
    secret: &str,
    world_url: &str,
    emulator_url: &str,
    body: &Path,
) -> String {
    let folder = body.parent().unwrap_or(body).display();
    format!(
        r#"
Everything keeps running; Ctrl-C ends it. In another terminal:

  cd '{folder}'
  WEBHOOK_URL={webhook_url}
  SECRET={secret}
  sign() {{ openssl dgst -sha256 -hmac "$SECRET" -r < "$1" | cut -d' ' -f1; }}
  send() {{ curl -sS -o /dev/null -w '%{{http_code}}\n' "$WEBHOOK_URL" -H 'content-type: application/json' \
    -H 'x-github-event: workflow_job' -H "x-github-delivery: $(cat /proc/sys/kernel/random/uuid)" \
    -H "x-hub-signature-256: sha256=$2" --data-binary "@$1"; }}

A real delivery, which GitHub itself has lost on purpose, signed: 202, and its job's life appears here. The same
with one byte changed: 401.

  send {PAYLOAD} "$(sign {PAYLOAD})"
  sed '1s/{{/[/' {PAYLOAD} > changed.json; cmp {PAYLOAD} changed.json
  send changed.json "$(sign {PAYLOAD})"

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
    fn the_instructions_are_lines_for_a_shell() {
        let text = instructions("http://h/w/", "s", "http://w", "http://a", Path::new("/r/payload.json"));
        let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("  ")).collect();
        let script = lines.join("\n");
        let checked = std::process::Command::new("sh").args(["-n", "-c", &script]).status().unwrap();
        assert!(checked.success(), "{script}");
        assert!(lines.contains(&"cd '/r'") && lines.contains(&"SECRET=s"), "{script}");
    }

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
