//! `runner-scaler app`: the GitHub App that the functions speak as.

mod create;
mod github;
mod manifest;
mod page;
mod store;

use clap::Subcommand;

use crate::Outcome;
use crate::console::Console;
use crate::failure::Failure;

/// What can be done about the App.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make the GitHub App in the browser and store what it needs in SSM.
    ///
    /// Serves a page on this machine whose button takes a manifest to GitHub: the App's name, its webhook, the event
    /// `workflow_job` and exactly the permissions that the functions use. A click there makes the App; GitHub then hands
    /// over its id, private key and webhook secret, which go to `<app-path>/app-id`, `/private-key` and
    /// `/webhook-secret` as secure strings. None of them is ever shown or written elsewhere.
    ///
    /// AWS: region and credentials from `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and
    /// `AWS_SESSION_TOKEN`, or else from the AWS CLI (`aws configure export-credentials`), with its profiles and single
    /// sign-on. Needs ssm:GetParameters and ssm:PutParameter below the path, and kms:Encrypt where a key of your own is
    /// named.
    Create(Box<create::Options>),
}

/// Carries the command out.
pub(crate) async fn run(command: Command, console: &Console) -> Result<Outcome, Failure> {
    match command {
        Command::Create(options) => create::run(&options, console).await,
    }
}
