//! How often each operation was called.

use std::collections::BTreeMap;
use std::fmt;

/// Whose operation was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Api {
    /// GitHub's REST API.
    GitHub,
    /// EC2.
    Ec2,
    /// `DynamoDB`.
    DynamoDb,
    /// SSM.
    Ssm,
    /// SQS.
    Sqs,
    /// Anything that the server does not speak.
    Unknown,
}

/// Calls by API and operation: GitHub's by method and kind, such as `DELETE runner`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(BTreeMap<(Api, String), usize>);

impl Counts {
    pub(super) fn add(&mut self, api: Api, operation: String) {
        *self.0.entry((api, operation)).or_default() += 1;
    }

    /// Adds the calls of another time.
    pub fn extend(&mut self, other: &Self) {
        for (call, count) in &other.0 {
            *self.0.entry(call.clone()).or_default() += count;
        }
    }

    /// Calls of one API.
    #[must_use]
    pub fn of(&self, wanted: Api) -> usize {
        self.0.iter().filter(|((api, _), _)| *api == wanted).map(|(_, count)| count).sum()
    }

    /// Calls of one operation.
    #[must_use]
    pub fn of_operation(&self, api: Api, operation: &str) -> usize {
        self.0.get(&(api, operation.to_owned())).copied().unwrap_or_default()
    }

    /// Calls of AWS.
    #[must_use]
    pub fn aws(&self) -> usize {
        [Api::Ec2, Api::DynamoDb, Api::Ssm, Api::Sqs].into_iter().map(|api| self.of(api)).sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, ((api, operation), count)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{api:?} {operation}: {count}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart_by_api_and_operation() {
        let mut counts = Counts::default();
        for (api, operation) in [(Api::GitHub, "GET runner"), (Api::GitHub, "GET runner"), (Api::Ec2, "CreateTags")] {
            counts.add(api, operation.to_owned());
        }
        assert_eq!((counts.of(Api::GitHub), counts.aws(), counts.of(Api::Ssm)), (2, 1, 0));
        assert_eq!(counts.of_operation(Api::GitHub, "GET runner"), 2);
        assert_eq!(counts.to_string(), "GitHub GET runner: 2, Ec2 CreateTags: 1");
        let mut twice = counts.clone();
        twice.extend(&counts);
        assert_eq!(twice.of(Api::GitHub), 4);
    }
}
