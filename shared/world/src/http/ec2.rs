//! EC2's query protocol: form-encoded calls in, XML answers out, exactly as aws-sdk-ec2 1.274 writes and reads them.
//!
//! It decides nothing about instances: it parses, asks the adversary, calls [`crate::ec2::Ec2`], and renders.
//! Parameters that this double does not know are refused (`UnknownParameter`, as EC2 does) instead of ignored: a call
//! that passes here must not depend on something that only EC2 would have noticed.

mod params;
mod render;
mod requests;

use crate::World;
use crate::call::{Api, Call};
use crate::ec2::{Ec2Error, FleetAnswer, InstancePage, StateChange};
use crate::trap::Interference;
use crate::truth::Fact;
use params::Params;
use requests::Request;

/// The API version that the double speaks.
const API_VERSION: &str = "2016-11-15";

/// What goes back to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ec2HttpAnswer {
    /// An answer, `text/xml`.
    Reply {
        /// HTTP status.
        status: u16,
        /// XML.
        body: String,
    },
    /// The connection closes without an answer.
    NoReply,
}

/// What a call brought about.
#[derive(Debug)]
enum Outcome {
    Fleet(FleetAnswer),
    Page(InstancePage),
    Tagged,
    Terminating(Vec<StateChange>),
}

/// Carries out one call at the world's present time, the adversary's part included.
///
/// `caller` is the calling function ([`crate::call::caller_of`]); `form_body` is the POST's body as received. The
/// signature is not verified: nobody but the stack's own functions reaches this port.
pub fn handle(world: &mut World, caller: &str, form_body: &[u8]) -> Ec2HttpAnswer {
    let mut params = Params::parse(form_body);
    let action = params.take("Action").unwrap_or_default();
    let call = Call::new(Api::Ec2, &action, caller).about_instances(&params.instance_ids());
    let request_id = request_id(world);
    if let Some(answer) = interfered(world.begin_call(&call), &request_id) {
        return answer;
    }
    let result = checked(&mut params)
        .and_then(|dry_run| Ok((dry_run, Request::read(&action, params)?)))
        .and_then(|(dry_run, request)| carry_out(world, caller, &request, dry_run));
    let call = match &result {
        Ok(Outcome::Fleet(answer)) => {
            let launched: Vec<_> = answer.groups.iter().flat_map(|group| group.instance_ids.clone()).collect();
            call.about_instances(&launched)
        }
        Ok(Outcome::Page(_) | Outcome::Tagged | Outcome::Terminating(_)) | Err(_) => call,
    };
    if let Some(answer) = interfered(world.end_call(&call), &request_id) {
        return answer;
    }
    match result {
        Ok(outcome) => Ec2HttpAnswer::Reply { status: 200, body: render::outcome(&outcome, &request_id) },
        Err(error) => Ec2HttpAnswer::Reply { status: error.status, body: render::error(&error, &request_id) },
    }
}

fn checked(params: &mut Params) -> Result<DryRun, Ec2Error> {
    let version = params.take("Version").unwrap_or_default();
    if version != API_VERSION {
        return Err(Ec2Error::refused("NoSuchVersion", format!("The requested version ({version}) is not valid")));
    }
    match params.take("DryRun").as_deref() {
        Some("true") => Ok(DryRun::Yes),
        Some(_) | None => Ok(DryRun::No),
    }
}

/// Whether only the permission is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DryRun {
    Yes,
    No,
}

fn carry_out(world: &mut World, caller: &str, request: &Request, dry_run: DryRun) -> Result<Outcome, Ec2Error> {
    let now = world.now();
    let World { ec2, tape, truth, .. } = world;
    ec2.admit(tape)?;
    if dry_run == DryRun::Yes {
        return Err(Ec2Error::dry_run());
    }
    match request {
        Request::CreateFleet(fleet) => ec2.create_fleet(fleet, now, tape).map(Outcome::Fleet),
        Request::DescribeInstances(describe) => ec2.describe_instances(describe, now).map(Outcome::Page),
        Request::CreateTags { ids, tags } => ec2.create_tags(ids, tags, now).map(|()| Outcome::Tagged),
        Request::TerminateInstances { ids } => {
            let result = ec2.terminate_instances(ids, caller, now, tape);
            if result.as_ref().is_err_and(|error| error.code == Ec2Error::PROTECTED) {
                let kept = ids.iter().filter(|id| ec2.instance(id).is_some_and(|i| i.protected));
                for instance_id in kept.cloned() {
                    truth.record(now, Fact::TerminationRefused { instance_id, caller: caller.to_owned() });
                }
            }
            result.map(Outcome::Terminating)
        }
    }
}

fn interfered(interference: Interference, request_id: &str) -> Option<Ec2HttpAnswer> {
    match interference {
        Interference::Proceed => None,
        Interference::LoseReply => Some(Ec2HttpAnswer::NoReply),
        Interference::Fail { status } => {
            let code = if status == 503 { "Unavailable" } else { "InternalError" };
            let error = Ec2Error { code, message: "An internal error has occurred".to_owned(), status };
            Some(Ec2HttpAnswer::Reply { status, body: render::error(&error, request_id) })
        }
    }
}

fn request_id(world: &World) -> String {
    format!("00000000-0000-4000-8000-{:012x}", world.now())
}

#[cfg(test)]
mod tests;
