//! The AWS side of the local stack: emulator, counting proxy, and everything a deployment would create.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::failure::Failure;
use crate::functions::{Function, deployment_package, launcher_package};
use crate::local::document::{
    CONFIG_PARAMETER, DEAD_LETTERS, FleetSpec, GITHUB_APP_PATH, KILL_SWITCH_PARAMETER, QUEUE, configuration_document,
    function_variables, queue_arn, tables,
};
use crate::local::emulator::{Emulator, FunctionSpec, ParameterKind};
use crate::local::processes::ProcessGroup;
use crate::local::proxy::Proxy;
use crate::local::python::{self, MinistackSettings};
use crate::local::secrets::{APP_ID, Secrets};
use crate::workspace::{Profile, Workspace};

/// The running AWS side; everything ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Aws {
    /// The emulator's client.
    pub(crate) emulator: Emulator,
    /// What stands between functions and emulator.
    pub(crate) proxy: Proxy,
    /// URL of the queue of jobs.
    pub(crate) queue_url: String,
    /// URL of the dead-letter queue.
    pub(crate) dead_letters_url: String,
    /// The environment that every function gets.
    pub(crate) variables: BTreeMap<String, String>,
    /// The run's folder.
    pub(crate) folder: PathBuf,
    process: ProcessGroup,
    code_folder: PathBuf,
}

impl Drop for Aws {
    fn drop(&mut self) {
        self.process.kill();
        // What stays costs only disk space below the target directory.
        let _kept = std::fs::remove_dir_all(&self.code_folder);
    }
}

/// What the AWS side needs to know.
#[derive(Debug)]
pub(crate) struct AwsSettings<'a> {
    /// Where the world will listen.
    pub(crate) world_url: &'a str,
    /// The App's and the deliveries' secrets.
    pub(crate) secrets: &'a Secrets,
    /// The fleets of the configuration document.
    pub(crate) fleets: &'a [FleetSpec],
    /// A rule to break in the functions.
    pub(crate) mutant: Option<&'a str>,
    /// The run's folder.
    pub(crate) folder: &'a Path,
    /// The Python that has the emulator.
    pub(crate) python: &'a Path,
}

impl Aws {
    /// Starts emulator and proxy and creates queues, tables and parameters; no function yet.
    pub(crate) async fn start(http: &reqwest::Client, settings: &AwsSettings<'_>) -> Result<Self, Failure> {
        let port = free_port()?;
        let emulator = Emulator::new(http.clone(), format!("http://127.0.0.1:{port}"));
        let proxy = Proxy::start(http.clone(), emulator.base_url()).await?;
        let ministack = MinistackSettings {
            python: settings.python,
            port,
            functions_endpoint: &proxy.base_url(),
            folder: settings.folder,
        };
        let process = python::start(&ministack, http).await?;
        let (queue_url, dead_letters_url) = create_queues(&emulator).await?;
        for table in tables() {
            emulator.create_table(table).await?;
        }
        put_parameters(&emulator, settings).await?;
        Ok(Self {
            variables: function_variables(settings.world_url, &queue_url, settings.mutant),
            emulator,
            proxy,
            queue_url,
            dead_letters_url,
            folder: settings.folder.to_owned(),
            process,
            // Where ministack unpacks the functions' packages: tens of MB each in a debug build.
            code_folder: settings.folder.join(format!("ministack-provided-code-{port}")),
        })
    }

    /// Deploys the five functions with what wakes them; the webhook's URL.
    pub(crate) async fn deploy(&self, workspace: &Workspace, profile: Profile) -> Result<String, Failure> {
        for function in Function::ALL {
            let binary = workspace.binary(function, profile)?;
            let package = match profile {
                Profile::Debug => launcher_package(&binary)?,
                Profile::Release => deployment_package(&binary)?,
            };
            let spec = FunctionSpec {
                name: function.name(),
                package: &package,
                timeout_seconds: function.timeout_seconds(),
                variables: &self.variables,
            };
            self.emulator.create_function(&spec).await?;
            if let Some(expression) = function.schedule() {
                self.emulator.create_schedule(function.name(), expression).await?;
            }
        }
        self.emulator.map_queue(QUEUE, Function::ScaleUp.name()).await?;
        self.emulator.create_function_url(Function::Webhook.name()).await
    }

    /// Writes what every function logged to a file of its own in the run's folder.
    pub(crate) async fn save_function_logs(&self) -> Result<(), Failure> {
        for function in Function::ALL {
            let lines = self.emulator.function_log(function.name()).await?;
            let path = self.folder.join(format!("{}.log", function.name()));
            std::fs::write(&path, lines.join("\n")).map_err(Failure::io(format!("cannot write {}", path.display())))?;
        }
        Ok(())
    }
}

/// A port of loopback that nobody listens on. Somebody could take it before we do; the start then fails and says so.
pub(crate) fn free_port() -> Result<u16, Failure> {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(Failure::io("cannot listen on loopback"))
}

async fn create_queues(emulator: &Emulator) -> Result<(String, String), Failure> {
    let dead_letters_url = emulator.create_queue(DEAD_LETTERS, json!({})).await?;
    let redrive = json!({ "deadLetterTargetArn": queue_arn(DEAD_LETTERS), "maxReceiveCount": 5 });
    // Six times the consumer's time limit, as AWS asks: shorter, and a slow batch is handed out twice.
    let visibility_seconds = 6 * Function::ScaleUp.timeout_seconds();
    let attributes = json!({
        "VisibilityTimeout": visibility_seconds.to_string(),
        "RedrivePolicy": redrive.to_string(),
    });
    let queue_url = emulator.create_queue(QUEUE, attributes).await?;
    Ok((queue_url, dead_letters_url))
}

async fn put_parameters(emulator: &Emulator, settings: &AwsSettings<'_>) -> Result<(), Failure> {
    let document = configuration_document(settings.fleets).to_string();
    let app = |name: &str| format!("{GITHUB_APP_PATH}/{name}");
    let secrets = settings.secrets;
    for (name, kind, value) in [
        (CONFIG_PARAMETER.to_owned(), ParameterKind::Plain, document.as_str()),
        (KILL_SWITCH_PARAMETER.to_owned(), ParameterKind::Plain, "enabled"),
        (app("app-id"), ParameterKind::Plain, APP_ID.to_string().as_str()),
        (app("private-key"), ParameterKind::Secure, secrets.private_key.as_str()),
        (app("webhook-secret"), ParameterKind::Secure, secrets.webhook_secret.as_str()),
    ] {
        emulator.put_parameter(&name, kind, value).await?;
    }
    Ok(())
}
