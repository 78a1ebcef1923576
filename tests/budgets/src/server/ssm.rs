//! SSM's parameter store.

use std::collections::BTreeMap;

use axum::body::Bytes;
use runner_scaler_adapters::SystemClock;
use runner_scaler_core::time::{Clock as _, Timestamp};
use serde_json::{Value, json};

use super::reply::{Refusal, Reply};

/// Parameters by name.
#[derive(Debug, Default)]
pub struct ParameterStore {
    /// The values.
    pub values: BTreeMap<String, String>,
    /// Puts that it admits in a second, so many at once and no more; `None` is any number.
    pub puts_a_second: Option<u32>,
    puts: Option<Puts>,
}

/// What is left of this second's puts, in thousandths.
#[derive(Clone, Copy, Debug)]
struct Puts {
    thousandths: u64,
    at: Timestamp,
}

impl ParameterStore {
    /// One that holds these and admits any number of puts.
    #[must_use]
    pub fn new(values: BTreeMap<String, String>) -> Self {
        Self { values, ..Self::default() }
    }

    /// `None`: an operation that is not spoken here.
    pub(super) fn answer(&mut self, operation: &str, body: &Bytes) -> Option<Reply> {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let outcome = match operation {
            "GetParameter" => self.get(&request),
            "PutParameter" => self.put(&request, SystemClock.now()),
            "DeleteParameter" => self.delete(&request),
            "DescribeParameters" => self.describe(&request),
            "GetParametersByPath" => Ok(self.by_path(&request)),
            _ => return None,
        };
        Some(Reply::of_json_service(outcome.map_err(|refusal| (refusal, json!({})))))
    }

    fn get(&self, request: &Value) -> Result<Value, Refusal> {
        let name = name_of(request);
        let value = self.values.get(name).ok_or_else(|| absent(name))?;
        Ok(json!({ "Parameter": parameter(name, value) }))
    }

    fn put(&mut self, request: &Value, now: Timestamp) -> Result<Value, Refusal> {
        if let Some(limit) = self.puts_a_second {
            let most = u64::from(limit) * 1_000;
            let Puts { thousandths, at } = self.puts.unwrap_or(Puts { thousandths: most, at: now });
            let passed = u64::try_from(now.since(at).as_millis()).unwrap_or(most);
            let left = (thousandths + passed * u64::from(limit)).min(most);
            let after = left.checked_sub(1_000);
            self.puts = Some(Puts { thousandths: after.unwrap_or(left), at: now });
            if after.is_none() {
                return Err(Refusal::new("ThrottlingException", "Rate exceeded"));
            }
        }
        let name = name_of(request);
        if self.values.contains_key(name) {
            return Err(Refusal::new("ParameterAlreadyExists", name));
        }
        self.values.insert(name.to_owned(), request["Value"].as_str().unwrap_or_default().to_owned());
        Ok(json!({ "Version": 1 }))
    }

    fn delete(&mut self, request: &Value) -> Result<Value, Refusal> {
        let name = name_of(request);
        self.values.remove(name).map(|_| json!({})).ok_or_else(|| absent(name))
    }

    /// All on one page: the tests store no JIT configurations.
    fn by_path(&self, request: &Value) -> Value {
        let path = request["Path"].as_str().unwrap_or_default();
        let prefix = below(path);
        let found = self.values.iter().filter(|(name, _)| name.starts_with(&prefix));
        json!({ "Parameters": found.map(|(name, value)| parameter(name, value)).collect::<Vec<_>>() })
    }

    /// Filters by `Name` or `Path`, and refuses any other.
    fn describe(&self, request: &Value) -> Result<Value, Refusal> {
        let filters = request["ParameterFilters"].as_array().cloned().unwrap_or_default();
        let [filter] = filters.as_slice() else {
            return Err(Refusal::new("ValidationException", "one filter is spoken here"));
        };
        let (prefix, one_level) =
            match (filter["Key"].as_str(), filter["Option"].as_str(), filter["Values"][0].as_str()) {
                (Some("Name"), Some("BeginsWith"), Some(prefix)) => (prefix.to_owned(), false),
                (Some("Path"), None | Some("OneLevel"), Some(path)) => (below(path), true),
                (Some("Path"), Some("Recursive"), Some(path)) => (below(path), false),
                (_, _, _) => return Err(Refusal::new("InvalidFilterKey", "the filter is not spoken here")),
            };
        let described: Vec<Value> = self
            .values
            .keys()
            .filter(|name| name.strip_prefix(&prefix).is_some_and(|rest| !(one_level && rest.contains('/'))))
            .map(|name| json!({ "Name": name, "Type": "SecureString", "LastModifiedDate": 0 }))
            .collect();
        Ok(json!({ "Parameters": described }))
    }
}

/// How the names below a path begin.
fn below(path: &str) -> String {
    format!("{}/", path.trim_end_matches('/'))
}

fn name_of(request: &Value) -> &str {
    request["Name"].as_str().unwrap_or_default()
}

fn parameter(name: &str, value: &str) -> Value {
    json!({ "Name": name, "Type": "SecureString", "Value": value, "LastModifiedDate": 0 })
}

fn absent(name: &str) -> Refusal {
    Refusal::new("ParameterNotFound", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_put_once_and_only_so_many_in_a_second() {
        let mut store = ParameterStore { puts_a_second: Some(2), ..ParameterStore::default() };
        let mut put = |name: &str, ms: i64| {
            let put = store.put(&json!({ "Name": name, "Value": "v" }), Timestamp(ms));
            put.err().map(|refusal| refusal.code)
        };
        for (case, name, ms, expected) in [
            ("the first", "a", 0, None),
            ("again", "a", 0, Some("ParameterAlreadyExists")),
            ("a third in the second", "b", 100, Some("ThrottlingException")),
            ("half a second later", "b", 500, None),
            ("at once after it", "c", 510, Some("ThrottlingException")),
            ("the second after", "c", 1_600, None),
        ] {
            assert_eq!(put(name, ms), expected, "{case}");
        }
    }

    #[test]
    fn parameters_are_read_listed_below_a_path_and_deleted() {
        let values = ["/rs/jit/i-1", "/rs/jitter", "/rs/switch"].map(|name| (name.to_owned(), "v".to_owned()));
        let mut store = ParameterStore { values: values.into(), ..ParameterStore::default() };
        let mut answer = |operation: &str, request: Value| {
            let reply = store.answer(operation, &Bytes::from(request.to_string())).expect("spoken");
            let (status, _, body) = reply.parts();
            (status, serde_json::from_str::<Value>(body).expect("JSON"))
        };
        let (status, read) = answer("GetParameter", json!({ "Name": "/rs/switch" }));
        assert_eq!((status, read["Parameter"]["Value"].as_str()), (200, Some("v")));
        for (operation, request) in [
            ("GetParametersByPath", json!({ "Path": "/rs/jit" })),
            ("DescribeParameters", json!({ "ParameterFilters": [{ "Key": "Path", "Values": ["/rs/jit"] }] })),
        ] {
            let (status, listed) = answer(operation, request);
            assert_eq!((status, listed["Parameters"].as_array().map(Vec::len)), (200, Some(1)), "{operation}");
        }
        assert_eq!(answer("DeleteParameter", json!({ "Name": "/rs/jit/i-1" })).0, 200);
        let (status, refused) = answer("GetParameter", json!({ "Name": "/rs/jit/i-1" }));
        assert_eq!((status, refused["__type"].as_str()), (400, Some("com.amazonaws#ParameterNotFound")));
        assert_eq!(answer("DescribeParameters", json!({})).0, 400, "a filter is needed");
    }
}
