//! `DescribeInstances`: filters, pages and eventual consistency.

use super::{Ec2, Ec2Error, Instance};
use crate::Millis;

/// The smallest and largest `MaxResults` that EC2 accepts (API reference, `DescribeInstances`).
const MAX_RESULTS: std::ops::RangeInclusive<usize> = 5..=1_000;

/// Prefix of a page token, so that another text is not mistaken for one.
const TOKEN_PREFIX: &str = "after-";

/// One filter: an instance passes when any value matches; all filters must pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// `tag:KEY`, `instance-state-name` and so on.
    pub name: String,
    /// Values, with EC2's wildcards `*` and `?`.
    pub values: Vec<String>,
}

/// A `DescribeInstances` call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DescribeRequest {
    /// Only these; empty for all.
    pub instance_ids: Vec<String>,
    /// Filters.
    pub filters: Vec<Filter>,
    /// Page size asked for.
    pub max_results: Option<usize>,
    /// The page to go on from.
    pub next_token: Option<String>,
}

/// One page of instances, in launch order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstancePage {
    /// The instances.
    pub instances: Vec<Instance>,
    /// Set when more follow.
    pub next_token: Option<String>,
}

impl Ec2 {
    /// `DescribeInstances`. A page may be empty or short although a token says that more follow.
    ///
    /// # Errors
    /// An id that is unknown or not visible yet fails the whole call; ids exclude `MaxResults`; an unknown filter or a
    /// token that is not ours is refused.
    pub fn describe_instances(&self, request: &DescribeRequest, now: Millis) -> Result<InstancePage, Ec2Error> {
        check_combination(request)?;
        for filter in &request.filters {
            check_filter(filter)?;
        }
        if !request.instance_ids.is_empty() {
            self.check_known(&request.instance_ids, now)?;
        }
        let after = request.next_token.as_deref().map(sequence_of).transpose()?;
        let mut matching: Vec<&Instance> = self
            .instances()
            .filter(|instance| instance.is_visible(now))
            .filter(|instance| request.instance_ids.is_empty() || request.instance_ids.contains(&instance.id))
            .filter(|instance| request.filters.iter().all(|filter| passes(instance, filter)))
            .filter(|instance| after.is_none_or(|after| instance.sequence > after))
            .collect();
        matching.sort_by_key(|instance| instance.sequence);

        let size = request.max_results.unwrap_or(usize::MAX).min(self.settings.page_size.max(1));
        let more = matching.len() > size && request.instance_ids.is_empty();
        if more {
            matching.truncate(size);
        }
        let last = matching.last().map(|instance| instance.sequence).filter(|_| more);
        Ok(InstancePage {
            next_token: last.map(|sequence| format!("{TOKEN_PREFIX}{sequence}")),
            instances: matching.into_iter().cloned().collect(),
        })
    }
}

fn check_combination(request: &DescribeRequest) -> Result<(), Ec2Error> {
    let Some(max_results) = request.max_results else { return Ok(()) };
    if !request.instance_ids.is_empty() {
        return Err(Ec2Error::refused(
            "InvalidParameterCombination",
            "The parameter instancesSet cannot be used with the parameter maxResults",
        ));
    }
    if !MAX_RESULTS.contains(&max_results) {
        return Err(Ec2Error::refused(
            "InvalidParameterValue",
            format!(
                "Value ( {max_results} ) for parameter maxResults is invalid. Expecting a value between 5 and 1000."
            ),
        ));
    }
    Ok(())
}

fn sequence_of(token: &str) -> Result<u64, Ec2Error> {
    token
        .strip_prefix(TOKEN_PREFIX)
        .and_then(|sequence| sequence.parse().ok())
        .ok_or_else(|| Ec2Error::refused("InvalidParameterValue", "Unable to parse pagination token"))
}

/// The filters of the API that this double understands; another name is refused rather than ignored, as EC2 does with
/// names that it does not know.
fn check_filter(filter: &Filter) -> Result<(), Ec2Error> {
    const KNOWN: [&str; 9] = [
        "tag-key",
        "instance-state-name",
        "instance-state-code",
        "instance-id",
        "instance-type",
        "instance-lifecycle",
        "availability-zone",
        "subnet-id",
        "client-token",
    ];
    if filter.name.starts_with("tag:") || KNOWN.contains(&filter.name.as_str()) {
        return Ok(());
    }
    Err(Ec2Error::refused("InvalidParameterValue", format!("The filter '{}' is invalid", filter.name)))
}

fn passes(instance: &Instance, filter: &Filter) -> bool {
    let any = |value: &str| filter.values.iter().any(|pattern| wildcard_matches(pattern, value));
    if let Some(key) = filter.name.strip_prefix("tag:") {
        return instance.tags.get(key).is_some_and(|value| any(value));
    }
    match filter.name.as_str() {
        "tag-key" => instance.tags.keys().any(|key| any(key)),
        "instance-state-name" => any(instance.state.name()),
        "instance-state-code" => any(&instance.state.code().to_string()),
        "instance-id" => any(&instance.id),
        "instance-type" => any(&instance.instance_type),
        // On-demand instances have no lifecycle, so this filter can only find spot ones.
        "instance-lifecycle" => instance.market == super::Market::Spot && any("spot"),
        "availability-zone" => any(&instance.availability_zone),
        "subnet-id" => any(&instance.subnet_id),
        "client-token" => any(&instance.client_token),
        _ => false,
    }
}

/// EC2's filter patterns: `*` is any text, `?` any one character.
fn wildcard_matches(pattern: &str, value: &str) -> bool {
    let mut rest = pattern.chars();
    match rest.next() {
        None => value.is_empty(),
        Some('*') => value
            .char_indices()
            .map(|(at, _)| at)
            .chain([value.len()])
            .any(|at| value.get(at..).is_some_and(|tail| wildcard_matches(rest.as_str(), tail))),
        Some(wanted) => {
            let mut value = value.chars();
            value.next().is_some_and(|got| wanted == '?' || wanted == got)
                && wildcard_matches(rest.as_str(), value.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_ec2() {
        for (case, pattern, value, expected) in [
            ("plain text is equality", "prod", "prod", true),
            ("case matters", "Prod", "prod", false),
            ("a star is any text", "ghr-*-1", "ghr-a-b-1", true),
            ("a star is also nothing", "prod*", "prod", true),
            ("a question mark is exactly one", "prod-?", "prod-", false),
            ("a question mark is exactly one", "prod-?", "prod-1", true),
        ] {
            assert_eq!(wildcard_matches(pattern, value), expected, "{case}: {pattern} {value}");
        }
    }
}
