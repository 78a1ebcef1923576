//! `runner-scaler app create` as a person uses it: the real command, a browser played here, GitHub's double and a
//! parameter store, all over HTTP on loopback.
#![expect(clippy::unwrap_used, reason = "a test ends at its first surprise")]

use std::process::Stdio;
use std::time::Duration;

use budgets::process::variables;
use budgets::server::{CountingServer, DynamoDb, Ec2, GitHub, ParameterStore, Services};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use runner_scaler_world::http::server::{ServerSettings, WorldServer, wall_now};
use runner_scaler_world::{Settings, Tape, World};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const HOOK: &str = "https://hook.example.org/";

/// GitHub and AWS.
struct Stage {
    github: WorldServer,
    aws: CountingServer,
    /// A browser that shows where it is sent before it goes there.
    browser: Client,
}

/// The command, started.
struct Started {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    said: String,
}

/// The command, ended.
struct Ended {
    code: Option<i32>,
    said: String,
}

impl Stage {
    async fn set(parameters: ParameterStore) -> Self {
        let world = World::new(Settings::local(), Tape::from_seed(1), wall_now());
        let settings = ServerSettings {
            listen: "127.0.0.1:0".parse().unwrap(),
            webhook_url: None,
            webhook_secret: "secret".into(),
            app_public_key_der: None,
        };
        let services = Services::new(GitHub::default(), Ec2::default(), DynamoDb::default(), parameters);
        Self {
            github: WorldServer::start(world, settings).await.unwrap(),
            aws: CountingServer::start(services).await.unwrap(),
            browser: Client::builder().redirect(Policy::none()).no_proxy().build().unwrap(),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner-scaler"));
        command
            .args(["app", "create", "--webhook-url", HOOK, "--github-url", self.github.base_url()])
            .args(arguments)
            .env_clear()
            .envs(variables(self.aws.url()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts the command; the address that it asks to open.
    async fn start(&self, arguments: &[&str]) -> (Started, String) {
        let mut child = self.command(arguments).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        let first = out.next_line().await.unwrap();
        let Some(first) = first else { panic!("no page: {:?}", child.wait_with_output().await.unwrap()) };
        let url = first.strip_prefix("Open ").and_then(|rest| rest.split(' ').next()).expect("an address").to_owned();
        (Started { child, out, said: first }, url)
    }

    /// Runs the command to its end without a browser.
    async fn refused(&self, arguments: &[&str]) -> Ended {
        let run = self.command(arguments).output();
        let output = tokio::time::timeout(Duration::from_secs(20), run).await.expect("it ends").unwrap();
        let said = [output.stdout, output.stderr].concat();
        Ended { code: output.status.code(), said: String::from_utf8(said).unwrap() }
    }

    /// Presses the button of the page: the manifest, and where GitHub sends the browser to.
    async fn press(&self, page: &str) -> (Value, String) {
        let html = self.browser.get(page).send().await.unwrap().text().await.unwrap();
        let (action, manifest) = (attribute(&html, "action"), attribute(&html, "value"));
        assert!(action.starts_with(self.github.base_url()), "{action}");
        let form = reqwest::Url::parse_with_params("http://x/", [("manifest", manifest.as_str())]).unwrap();
        let request = self.browser.post(&action).header("content-type", "application/x-www-form-urlencoded");
        let answer = request.body(form.query().unwrap().to_owned()).send().await.unwrap();
        let location = answer.headers().get("location").map(|url| url.to_str().unwrap().to_owned());
        (serde_json::from_str(&manifest).unwrap(), location.expect("GitHub takes the manifest"))
    }

    async fn visit(&self, url: &str) -> (StatusCode, String) {
        let answer = self.browser.get(url).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    fn stored(&self) -> Vec<(String, String, String)> {
        let services = self.aws.services();
        let of = |(name, value): (&String, &String)| {
            let kind = services.ssm.types.get(name).cloned().unwrap_or_default();
            (name.clone(), kind, value.clone())
        };
        services.ssm.values.iter().map(of).collect()
    }
}

impl Started {
    async fn ended(mut self) -> Ended {
        let end = async {
            while let Some(line) = self.out.next_line().await.unwrap() {
                self.said += "\n";
                self.said += &line;
            }
            let mut errors = String::new();
            self.child.stderr.take().unwrap().read_to_string(&mut errors).await.unwrap();
            self.said += &errors;
            self.child.wait().await.unwrap().code()
        };
        let code = tokio::time::timeout(Duration::from_secs(30), end).await.expect("it ends");
        Ended { code, said: self.said }
    }
}

/// An attribute of the page, as a browser reads it.
fn attribute(html: &str, name: &str) -> String {
    let (_, rest) = html.split_once(&format!(" {name}=\"")).expect("the attribute");
    let (text, _) = rest.split_once('"').expect("its end");
    [("&quot;", "\""), ("&#39;", "'"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")]
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn with(name: &str, value: &str) -> ParameterStore {
    ParameterStore { values: [(name.to_owned(), value.to_owned())].into(), ..ParameterStore::default() }
}

#[tokio::test]
async fn an_app_is_made_with_one_click_and_lies_in_ssm() {
    for (arguments, permissions) in [
        (
            &["--app-path", "/rs/app", "--organization", "octo"][..],
            json!({ "actions": "read", "organization_self_hosted_runners": "write" }),
        ),
        (
            &[
                "--app-path",
                "/rs/app/",
                "--organization",
                "octo",
                "--repository-runners",
                "--name",
                "a \"name\" & <more>",
            ],
            json!({ "actions": "read", "organization_self_hosted_runners": "write", "administration": "write" }),
        ),
        (&["--kms-key-id", "alias/rs"], json!({ "actions": "read", "administration": "write" })),
    ] {
        let stage = Stage::set(ParameterStore::default()).await;
        let (started, page) = stage.start(arguments).await;
        let (manifest, returned) = stage.press(&page).await;
        assert_eq!(manifest["default_permissions"], permissions, "{arguments:?}");
        assert_eq!((&manifest["default_events"], &manifest["public"]), (&json!(["workflow_job"]), &json!(false)));
        assert_eq!(manifest["hook_attributes"]["url"], HOOK);
        assert!(returned.starts_with(&page), "GitHub sends the browser back here: {returned}");

        // Somebody else's link, no code, another's name for this machine, and a code that GitHub never sent: each is
        // refused and spoils nothing.
        let nonce = returned.split_once("&state=").expect("a state").1;
        let code = returned.split_once("?code=").expect("a code").1.split('&').next().expect("a code");
        for (case, url, expected) in [
            ("another state", format!("{page}made?code={code}&state=0123"), StatusCode::BAD_REQUEST),
            ("no state", format!("{page}made?code={code}"), StatusCode::BAD_REQUEST),
            ("no code", format!("{page}made?state={nonce}"), StatusCode::BAD_REQUEST),
            ("a path for a code", format!("{page}made?code=..%2F..%2Fx&state={nonce}"), StatusCode::BAD_REQUEST),
            ("a code of nobody's", format!("{page}made?code=abc&state={nonce}"), StatusCode::BAD_GATEWAY),
        ] {
            assert_eq!(stage.visit(&url).await.0, expected, "{case}");
            assert_eq!(stage.stored(), [], "{case}");
        }
        let rebound = stage.browser.get(&page).header("host", "evil.example.org").send().await.unwrap();
        assert_eq!(rebound.status(), StatusCode::MISDIRECTED_REQUEST);

        let (status, html) = stage.visit(&returned).await;
        assert_eq!(status, StatusCode::OK, "{html}");
        let Ended { code, said } = started.ended().await;
        assert_eq!(code, Some(0), "{said}");
        let stored = stage.stored();
        let names: Vec<&str> = stored.iter().map(|(name, _, _)| name.as_str()).collect();
        assert_eq!(names, ["/rs/app/app-id", "/rs/app/private-key", "/rs/app/webhook-secret"], "{arguments:?}");
        assert!(stored.iter().all(|(_, kind, _)| kind == "SecureString"), "{stored:?}");
        let value = |index: usize| stored[index].2.as_str();
        assert!(value(0).parse::<u64>().is_ok() && value(1).contains("PRIVATE KEY"), "{stored:?}");
        assert!(value(2).starts_with("webhook-secret-"), "{stored:?}");
        assert!(said.contains("/installations/new") && said.contains(value(0)), "{said}");
        for secret in [value(1), "PRIVATE KEY", value(2), "client-secret", "webhook-secret-", nonce] {
            assert!(!said.contains(secret) && !html.contains(secret), "{secret} was shown: {said} {html}");
        }
    }
}

#[tokio::test]
async fn an_app_that_is_stored_is_written_over_only_where_that_is_said() {
    let stage = Stage::set(with("/rs/app/private-key", "the old key")).await;
    let Ended { code, said } = stage.refused(&["--organization", "octo"]).await;
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("/rs/app/private-key") && said.contains("--replace"), "{said}");
    assert!(!said.contains("Open "), "no App is made that could not be stored: {said}");

    let (started, page) = stage.start(&["--organization", "octo", "--replace"]).await;
    let (_, returned) = stage.press(&page).await;
    assert_eq!(stage.visit(&returned).await.0, StatusCode::OK);
    let Ended { code, said } = started.ended().await;
    assert_eq!(code, Some(0), "{said}");
    let stored = stage.stored();
    assert!(stored.len() == 3 && stored.iter().all(|(_, _, value)| value != "the old key"), "{stored:?}");
}

#[tokio::test]
async fn a_fault_of_ssm_is_tried_again_and_a_refusal_names_its_remedy_and_no_secret() {
    for (case, code, times, expected) in [
        ("a fault that passes", "InternalServerError", 1, Ok(())),
        ("a refusal", "AccessDeniedException", 9, Err("allow ssm:GetParameters and ssm:PutParameter")),
        ("stored meanwhile", "ParameterAlreadyExists", 9, Err("--replace")),
        ("another", "ValidationException", 9, Err("ValidationException")),
    ] {
        let refuses = Some((code, times));
        let stage = Stage::set(ParameterStore { refuses, ..ParameterStore::default() }).await;
        let (started, page) = stage.start(&["--organization", "octo"]).await;
        let (_, returned) = stage.press(&page).await;
        let (status, html) = stage.visit(&returned).await;
        let Ended { code, said } = started.ended().await;
        match expected {
            Ok(()) => assert_eq!((status, code), (StatusCode::OK, Some(0)), "{case}: {said}"),
            Err(remedy) => {
                assert_eq!((status, code), (StatusCode::BAD_GATEWAY, Some(2)), "{case}: {said}");
                let told = ["https://github.com/apps/runner-scaler-", "Delete the App", remedy];
                assert!(told.iter().all(|text| said.contains(text)), "{case}: {said}");
            }
        }
        for secret in ["PRIVATE KEY", "webhook-secret-"] {
            assert!(!said.contains(secret) && !html.contains(secret), "{case}: {secret} was shown: {said} {html}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_said_before_anything_is_made() {
    let stage = Stage::set(ParameterStore::default()).await;
    for (case, arguments, expected) in [
        ("a GitHub without TLS", &["--github-url", "http://github.com"][..], "must begin with https://"),
        ("a GitHub with a path", &["--github-url", "https://github.com/octo"], "without a path"),
        ("no path", &["--app-path", "rs/app"], "must be an SSM path"),
        ("repositories of nobody", &["--repository-runners"], "--organization"),
    ] {
        // A second --github-url takes the place of the first.
        let Ended { code, said } = stage.refused(arguments).await;
        assert!(code == Some(2) && said.contains(expected), "{case}: {code:?} {said}");
    }
    let mut nameless = stage.command(&[]);
    nameless.env_remove("AWS_REGION").env_remove("AWS_ACCESS_KEY_ID").env("PATH", "/nowhere");
    let output = nameless.output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("set AWS_REGION"), "{said}");

    let mut elsewhere = stage.command(&[]);
    elsewhere.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    let output = elsewhere.output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("SSM GetParameters"), "{said}");
}
