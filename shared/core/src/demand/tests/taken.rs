//! What becomes of a job whose runner another job took, once that one is over.

use super::day::{SECRET, signed};
use super::*;
use crate::ports::Instance;
use crate::webhook::{WebhookSecrets, handle};

#[test]
fn the_end_of_the_job_that_took_its_runner_is_not_the_end_of_a_job() {
    let fake = world([1]);
    pass(&fake, &policy());
    assert_eq!(scale_up(&fake, &policy()), [Outcome::Launched]);
    let instance = fake.all::<InstanceRecord>().pop().expect("launched for job 1");
    let body = serde_json::json!({
        "action": "completed",
        "workflow_job": {
            "id": 2, "run_id": 2, "run_attempt": 1, "labels": ["self-hosted", "linux"], "conclusion": "success",
            "runner_id": instance.runner_id.map(|id| id.0), "runner_name": instance.runner_name.as_str(),
        },
        "repository": { "full_name": "octo/hello", "owner": { "login": "octo", "type": "Organization" } },
        "organization": { "login": "octo" },
    });
    let secrets = WebhookSecrets::parse(SECRET).expect("long enough");
    let request = signed(&body.to_string());
    let answer = run(handle(&fake, &policy(), &secrets, request, fake.now())).expect("not killed");
    assert_eq!(answer.taken.status(), 202);
    fake.set_instance_state(&instance.instance_id, InstanceState::Terminated);
    assert!(job(&fake, 1).is_waiting(), "job 1 ended with job 2: {:?}", job(&fake, 1).phase);
    fake.pass(5 * MINUTE);
    pass(&fake, &policy());
    assert_eq!(sent(&fake), [1]);
}

#[test]
fn somebody_elses_instance_with_our_tags_excuses_no_launch() {
    let fake = world([1]);
    let tags = [
        ("ghr:environment", "test"),
        ("ghr:fleet", "linux"),
        ("ghr:owner", "octo"),
        ("aws:ec2launchtemplate:id", "lt-of-others"),
    ];
    let id = InstanceId::new("i-ffffffffffffffff0");
    let instance = Instance {
        id: id.clone(),
        state: InstanceState::Running,
        launched_at: fake.now(),
        tags: tags
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect::<crate::ports::Tags>()
            .into(),
    };
    fake.state_mut().instances.insert(id, instance);
    pass(&fake, &policy());
    assert_eq!(sent(&fake), [1], "it looks as if it boots for job 1");
}
