//! What all AWS adapters share: the SDK's configuration, and the one table from error codes to classes.
//!
//! The future of every call of the SDK is boxed where it is awaited: nested in the handlers' it is too deep a type for
//! the compiler, whose limit the functions would each have to raise.

use std::error::Error;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, SdkConfig};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use runner_scaler_core::error::{Class, PortError};

use crate::http::{CALL_TIMEOUT, CONNECT_TIMEOUT, Http};
use crate::jitter;

/// Tries of one call inside the SDK, with its own backoff and jitter. This is the one level that retries a fault of AWS
/// within an invocation, but for the ledger's writes, which are sent once by the SDK and tried again where it is known
/// whether an earlier try took effect (`dynamodb/ledger.rs`); the pass or the queue is the next.
const ATTEMPTS_MAX: u32 = 3;

/// The longest text of the other side that goes into an error, in characters.
const DETAIL_MAX: usize = 300;

/// Whether a call that got no answer may have changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It only reads.
    Read,
    /// It changes something.
    Change,
}

impl Effect {
    /// Class of a call whose answer was lost.
    pub(crate) fn unanswered(self) -> Class {
        match self {
            Self::Read => Class::Transient,
            Self::Change => Class::OutcomeUnknown,
        }
    }
}

/// Region, credentials and endpoints from the environment, as every SDK reads them. No request is made in Lambda: both
/// region and credentials are variables there.
pub(crate) async fn sdk_config(http: &Http, function: &'static str) -> SdkConfig {
    let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(CALL_TIMEOUT).build();
    let app_name = AppName::new(function).expect("a function's name is of letters and hyphens");
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(http.for_sdk())
        .app_name(app_name)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
        .timeout_config(timeouts)
        .load()
        .await
}

/// What a code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// AWS refused: nothing was done.
    Refused(Class),
    /// AWS failed in the middle: something may have been done.
    ServerFault,
}

/// The one table of AWS's error codes: EC2 (API reference, error codes, and `CreateFleet`'s `Errors`), `DynamoDB`, SQS,
/// SSM and the codes common to all; read 2026-11-20. `None`: unknown, the HTTP status decides.
fn meaning_of(code: &str) -> Option<Meaning> {
    use Meaning::{Refused, ServerFault};
    Some(match code {
        // `Unsupported` is "this type is not offered in that zone"; a quota or an empty subnet is room that may return.
        "InsufficientInstanceCapacity"
        | "InsufficientHostCapacity"
        | "InsufficientReservedInstanceCapacity"
        | "InsufficientCapacity"
        | "UnfulfillableCapacity"
        | "ReservationCapacityExceeded"
        | "MaxSpotInstanceCountExceeded"
        | "SpotMaxPriceTooLow"
        | "VcpuLimitExceeded"
        | "InstanceLimitExceeded"
        | "InsufficientFreeAddressesInSubnet"
        | "InsufficientVolumeCapacity"
        | "VolumeLimitExceeded"
        | "MaxIOPSLimitExceeded"
        | "Unsupported" => Refused(Class::NoCapacity),

        "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "ThrottledException"
        | "ThrottlingError"
        | "TooManyRequestsException"
        | "RequestThrottled"
        | "RequestThrottledException"
        | "EC2ThrottledException"
        | "ProvisionedThroughputExceeded"
        | "ProvisionedThroughputExceededException"
        | "TooManyUpdates"
        | "SlowDown" => Refused(Class::Throttled { retry_after: None }),

        "ConditionalCheckFailedException"
        | "ConditionalCheckFailed"
        | "TransactionConflictException"
        | "TransactionConflict" => Refused(Class::Conflict),

        "InvalidInstanceID.NotFound" | "ParameterNotFound" => Refused(Class::Absent),

        // An instance between two states, a token that is being renewed, a clock that was corrected.
        "IncorrectInstanceState"
        | "TransactionInProgressException"
        | "ExpiredToken"
        | "ExpiredTokenException"
        | "RequestExpired" => Refused(Class::Transient),

        // `OperationNotPermitted` is termination protection: somebody holds the instance.
        "IdempotentParameterMismatch"
        | "IdempotentParameterMismatchException"
        | "OperationNotPermitted"
        | "InvalidInstanceID.Malformed"
        | "InvalidFleetConfiguration"
        | "InvalidParameterValue"
        | "InvalidParameterCombination"
        | "ParameterAlreadyExists"
        | "ValidationError"
        | "ValidationException"
        | "ItemCollectionSizeLimitExceeded"
        | "ItemCollectionSizeLimitExceededException" => Refused(Class::Rejected),

        // `ResourceNotFoundException` is DynamoDB's word for a table that does not exist.
        "UnauthorizedOperation"
        | "AccessDenied"
        | "AccessDeniedException"
        | "AuthFailure"
        | "AuthFailure.ServiceLinkedRoleCreationNotPermitted"
        | "PendingVerification"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "MissingAuthenticationToken"
        | "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "OptInRequired"
        | "ResourceNotFoundException"
        | "QueueDoesNotExist"
        | "AWS.SimpleQueueService.NonExistentQueue"
        | "InvalidKeyId"
        | "InvalidLaunchTemplateId.NotFound"
        | "InvalidLaunchTemplateId.VersionNotFound"
        | "InvalidLaunchTemplateId.Malformed"
        | "InvalidSubnetID.NotFound"
        | "InvalidAMIID.NotFound"
        | "InvalidAMIID.Unavailable"
        | "InvalidSecurityGroupID.NotFound"
        | "InvalidGroup.NotFound" => Refused(Class::Misconfigured),

        "InternalError"
        | "InternalFailure"
        | "InternalServerError"
        | "InternalServerException"
        | "ServerInternal"
        | "ServiceUnavailable"
        | "Unavailable"
        | "RequestTimeout"
        | "RequestTimeoutException" => ServerFault,

        _ => return None,
    })
}

/// Class of a code that AWS answered with this HTTP status.
pub(crate) fn class_of(code: &str, status: Option<u16>, effect: Effect) -> Class {
    match (meaning_of(code), status) {
        (Some(Meaning::Refused(class)), _) => class,
        // A success without a code is an answer that the SDK could not read.
        (Some(Meaning::ServerFault), _) | (None, Some(..=399 | 500..) | None) => effect.unanswered(),
        (None, Some(401 | 403)) => Class::Misconfigured,
        (None, Some(429)) => Class::Throttled { retry_after: None },
        (None, Some(_)) => Class::Rejected,
    }
}

/// The error code, where AWS answered with one.
pub(crate) fn code_of<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Option<&str> {
    error.as_service_error().and_then(ProvideErrorMetadata::code)
}

/// A failed call in our words.
pub(crate) fn port_error<E>(call: impl Into<String>, effect: Effect, error: &SdkError<E, HttpResponse>) -> PortError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let Some(service) = error.as_service_error() else {
        let class = match error {
            SdkError::ConstructionFailure(_) => Class::Misconfigured,
            SdkError::TimeoutError(_)
            | SdkError::DispatchFailure(_)
            | SdkError::ResponseError(_)
            | SdkError::ServiceError(_)
            | _ => effect.unanswered(),
        };
        return PortError::new(call, class, chain(error));
    };
    let code = service.code().unwrap_or("no code");
    let status = error.raw_response().map(|response| response.status().as_u16());
    let detail = match service.message() {
        Some(message) => shortened(&format!("{code}: {message}")),
        None => code.to_owned(),
    };
    PortError::new(call, class_of(code, status, effect), detail)
}

/// A request that could not even be built; a fault of ours or of the configuration.
pub(crate) fn unbuilt(call: impl Into<String>, error: &dyn Error) -> PortError {
    PortError::new(call, Class::Rejected, chain(error))
}

/// An answer that lacks what it always has: as good as no answer.
pub(crate) fn misshapen(call: impl Into<String>, effect: Effect, what: &str) -> PortError {
    PortError::new(call, effect.unanswered(), format!("the answer has no {what}"))
}

/// The error and its causes, each once. The SDK's `Debug` would print requests and answers, secrets included.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    shortened(&text)
}

/// At most [`DETAIL_MAX`] characters of a text.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(DETAIL_MAX).collect()
}

/// Wait before the `attempt`-th repetition (counted from 1) of what the SDK does not repeat itself: twice as long each
/// time at most, and any time up to that.
pub(crate) fn backoff(attempt: u32) -> Duration {
    jitter::up_to(backoff_max(attempt))
}

fn backoff_max(attempt: u32) -> Duration {
    Duration::from_millis(50 * 2_u64.saturating_pow(attempt.min(6)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_class() {
        let throttled = Class::Throttled { retry_after: None };
        for (code, status, read, change) in [
            ("InsufficientInstanceCapacity", 500, Class::NoCapacity, Class::NoCapacity),
            ("MaxSpotInstanceCountExceeded", 400, Class::NoCapacity, Class::NoCapacity),
            ("VcpuLimitExceeded", 400, Class::NoCapacity, Class::NoCapacity),
            ("InsufficientFreeAddressesInSubnet", 400, Class::NoCapacity, Class::NoCapacity),
            ("UnfulfillableCapacity", 400, Class::NoCapacity, Class::NoCapacity),
            ("SpotMaxPriceTooLow", 400, Class::NoCapacity, Class::NoCapacity),
            ("Unsupported", 400, Class::NoCapacity, Class::NoCapacity),
            ("InstanceLimitExceeded", 400, Class::NoCapacity, Class::NoCapacity),
            ("InsufficientVolumeCapacity", 500, Class::NoCapacity, Class::NoCapacity),
            ("VolumeLimitExceeded", 400, Class::NoCapacity, Class::NoCapacity),
            ("MaxIOPSLimitExceeded", 400, Class::NoCapacity, Class::NoCapacity),
            ("RequestLimitExceeded", 503, throttled, throttled),
            ("Throttling", 503, throttled, throttled),
            ("RequestThrottled", 503, throttled, throttled),
            ("EC2ThrottledException", 503, throttled, throttled),
            ("ThrottlingException", 400, throttled, throttled),
            ("TooManyUpdates", 400, throttled, throttled),
            ("UnauthorizedOperation", 403, Class::Misconfigured, Class::Misconfigured),
            ("AccessDeniedException", 400, Class::Misconfigured, Class::Misconfigured),
            ("ResourceNotFoundException", 400, Class::Misconfigured, Class::Misconfigured),
            ("QueueDoesNotExist", 400, Class::Misconfigured, Class::Misconfigured),
            ("IdempotentParameterMismatch", 400, Class::Rejected, Class::Rejected),
            ("InvalidFleetConfiguration", 400, Class::Rejected, Class::Rejected),
            ("InvalidParameterValue", 400, Class::Rejected, Class::Rejected),
            ("InvalidSubnetID.NotFound", 400, Class::Misconfigured, Class::Misconfigured),
            ("InvalidLaunchTemplateId.VersionNotFound", 400, Class::Misconfigured, Class::Misconfigured),
            ("InvalidAMIID.Unavailable", 400, Class::Misconfigured, Class::Misconfigured),
            ("AuthFailure.ServiceLinkedRoleCreationNotPermitted", 403, Class::Misconfigured, Class::Misconfigured),
            ("InvalidInstanceID.NotFound", 400, Class::Absent, Class::Absent),
            ("InvalidInstanceID.Malformed", 400, Class::Rejected, Class::Rejected),
            ("ParameterNotFound", 400, Class::Absent, Class::Absent),
            ("IncorrectInstanceState", 400, Class::Transient, Class::Transient),
            ("OperationNotPermitted", 400, Class::Rejected, Class::Rejected),
            ("ConditionalCheckFailedException", 400, Class::Conflict, Class::Conflict),
            ("TransactionConflictException", 400, Class::Conflict, Class::Conflict),
            ("InternalError", 500, Class::Transient, Class::OutcomeUnknown),
            ("Unavailable", 503, Class::Transient, Class::OutcomeUnknown),
            ("RequestTimeout", 408, Class::Transient, Class::OutcomeUnknown),
            ("SomethingNew", 400, Class::Rejected, Class::Rejected),
            ("SomethingNew", 403, Class::Misconfigured, Class::Misconfigured),
            ("SomethingNew", 429, throttled, throttled),
            ("SomethingNew", 502, Class::Transient, Class::OutcomeUnknown),
            ("an answer that cannot be read", 200, Class::Transient, Class::OutcomeUnknown),
        ] {
            assert_eq!(class_of(code, Some(status), Effect::Read), read, "reading: {code} {status}");
            assert_eq!(class_of(code, Some(status), Effect::Change), change, "changing: {code} {status}");
        }
    }

    #[test]
    fn waits_double_up_to_a_bound_and_are_spread() {
        let most: Vec<u128> = (1..=8).map(|attempt| backoff_max(attempt).as_millis()).collect();
        assert_eq!(most, [100, 200, 400, 800, 1_600, 3_200, 3_200, 3_200]);
        let drawn: std::collections::BTreeSet<Duration> = (0..100).map(|_| backoff(3)).collect();
        assert!(drawn.len() > 50 && drawn.iter().all(|wait| *wait <= backoff_max(3)), "{drawn:?}");
    }

    #[test]
    fn a_chain_says_each_cause_once_and_not_without_end() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer: {0}")]
        struct Outer(#[source] std::io::Error);
        let long = "x".repeat(1_000);
        assert_eq!(chain(&Outer(std::io::Error::other("refused"))), "outer: refused");
        assert_eq!(chain(&std::io::Error::other(long)).chars().count(), DETAIL_MAX);
    }
}
