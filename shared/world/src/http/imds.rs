//! Instance metadata (`IMDSv2`) of each instance, under `/imds/{instance-id}/latest/...`.
//!
//! Tokens are required, as our launch template requires them. What an instance reads here about itself is what EC2 has
//! *now*: this is the road on which a drain request reaches the supervisor. The credentials open nothing.

use crate::World;
use crate::ec2::{Instance, State};
use axum::http::{HeaderMap, Method, StatusCode};
use serde_json::json;

/// The instance's role.
const ROLE: &str = "instance";

const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";

/// Longest life of a token in seconds (EC2 user guide, "Use `IMDSv2`", read 2026-11-20).
const TTL_MAX_SECONDS: i64 = 21_600;

/// Answers one request of an instance about itself; `path` is decoded and begins behind `/imds/{instance-id}/`.
///
/// 404 for what the instance does not have, and for an instance that runs no longer; 401 without a valid token; 400
/// for a token request without a valid lifetime.
#[must_use]
pub fn handle(
    world: &World,
    instance_id: &str,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> (StatusCode, String) {
    let running = world.ec2.instance(instance_id).filter(|instance| instance.state == State::Running);
    let Some(instance) = running else {
        return refused(StatusCode::NOT_FOUND);
    };
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
    match (method.as_str(), path) {
        ("PUT", "latest/api/token") => issue(instance, header(TTL_HEADER), world.now()),
        ("GET", path) if token_is_valid(instance, header(TOKEN_HEADER), world.now()) => path
            .strip_prefix("latest/meta-data/")
            .and_then(|item| metadata(instance, item))
            .map_or_else(|| refused(StatusCode::NOT_FOUND), |value| (StatusCode::OK, value)),
        ("GET", _) => refused(StatusCode::UNAUTHORIZED),
        _ => refused(StatusCode::METHOD_NOT_ALLOWED),
    }
}

fn metadata(instance: &Instance, item: &str) -> Option<String> {
    if let Some(key) = item.strip_prefix("tags/instance/").filter(|key| !key.is_empty()) {
        return instance.tags.get(key).cloned();
    }
    // The zone is the region and a letter.
    let region = || instance.availability_zone.get(..instance.availability_zone.len().saturating_sub(1));
    match item {
        "instance-id" => Some(instance.id.clone()),
        "instance-type" => Some(instance.instance_type.clone()),
        "instance-life-cycle" => Some(instance.market.name().to_owned()),
        "placement/region" => region().map(str::to_owned),
        "services/domain" => Some("amazonaws.com".to_owned()),
        "iam/security-credentials/" => Some(ROLE.to_owned()),
        role if role.strip_prefix("iam/security-credentials/") == Some(ROLE) => Some(
            json!({
                "Code": "Success",
                "AccessKeyId": "instance",
                "SecretAccessKey": "no secret",
                "Token": "no token",
                "Expiration": "2099-12-31T23:59:59Z",
            })
            .to_string(),
        ),
        "placement/availability-zone" => Some(instance.availability_zone.clone()),
        "tags/instance" | "tags/instance/" => Some(instance.tags.keys().cloned().collect::<Vec<_>>().join("\n")),
        _ => None,
    }
}

fn issue(instance: &Instance, ttl: Option<&str>, now: i64) -> (StatusCode, String) {
    match ttl.and_then(|ttl| ttl.parse::<i64>().ok()) {
        Some(ttl) if (1..=TTL_MAX_SECONDS).contains(&ttl) => {
            (StatusCode::OK, format!("{}.{}", instance.id, now + ttl * 1_000))
        }
        Some(_) | None => refused(StatusCode::BAD_REQUEST),
    }
}

fn token_is_valid(instance: &Instance, token: Option<&str>, now: i64) -> bool {
    token
        .and_then(|token| token.split_once('.'))
        .is_some_and(|(id, expiry)| id == instance.id && expiry.parse().is_ok_and(|expiry: i64| expiry > now))
}

fn refused(status: StatusCode) -> (StatusCode, String) {
    (status, String::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ec2::Tags;
    use crate::{Settings, Tape};

    fn get(world: &World, id: &str, path: &str, token: &str) -> (u16, String) {
        let headers = HeaderMap::from_iter([(TOKEN_HEADER.parse().unwrap(), token.parse().unwrap())]);
        let (status, body) = handle(world, id, &Method::GET, path, &headers);
        (status.as_u16(), body)
    }

    fn token(world: &World, id: &str, ttl: &str) -> (u16, String) {
        let headers = HeaderMap::from_iter([(TTL_HEADER.parse().unwrap(), ttl.parse().unwrap())]);
        let (status, body) = handle(world, id, &Method::PUT, "latest/api/token", &headers);
        (status.as_u16(), body)
    }

    #[test]
    fn an_instance_reads_itself_with_a_token_only() {
        let mut world = World::new(Settings::default(), Tape::from_choices(vec![]), 0);
        let id = world.ec2.launch_foreign(Tags::from([("ghr:drain".into(), "now".into())]), 0);
        let other = world.ec2.launch_foreign(Tags::new(), 0);
        let (status, session) = token(&world, &id, "60");
        assert_eq!(status, 200);
        assert_eq!(token(&world, &id, "0").0, 400);
        assert_eq!(token(&world, "i-00000000000000000", "60").0, 404);
        for (case, instance, path, token, expected) in [
            ("its id", &id, "latest/meta-data/instance-id", session.as_str(), (200, id.as_str())),
            ("a tag", &id, "latest/meta-data/tags/instance/ghr:drain", &session, (200, "now")),
            ("its tags", &id, "latest/meta-data/tags/instance", &session, (200, "ghr:drain")),
            ("its region", &id, "latest/meta-data/placement/region", &session, (200, "us-east-1")),
            ("its role", &id, "latest/meta-data/iam/security-credentials/", &session, (200, "instance")),
            ("a tag that is absent", &id, "latest/meta-data/tags/instance/nope", &session, (404, "")),
            ("no user data", &id, "latest/user-data", &session, (404, "")),
            ("another instance's token", &other, "latest/meta-data/instance-id", &session, (401, "")),
            ("no token", &id, "latest/meta-data/instance-id", "", (401, "")),
        ] {
            let (status, body) = get(&world, instance, path, token);
            assert_eq!((status, body.as_str()), expected, "{case}");
        }
        world.advance_to(61_000);
        assert_eq!(get(&world, &id, "latest/meta-data/instance-id", &session).0, 401, "an expired token");
    }
}
