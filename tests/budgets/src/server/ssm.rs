//! SSM's parameter store.

use std::collections::BTreeMap;
use std::time::Duration;

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
    /// Types of those that were put, by name.
    pub types: BTreeMap<String, String>,
    /// Refuses to write, with this code, so many times.
    pub refuses: Option<(&'static str, usize)>,
    /// Refuses what is put too fast.
    pub throttle: Option<Throttle>,
}

/// What SSM admits of `PutParameter`: a second's worth at once, refilled evenly.
#[derive(Debug)]
pub struct Throttle {
    put: Duration,
    /// When a whole second's worth is there again.
    full_at: Timestamp,
    refused: usize,
}

impl Throttle {
    /// What SSM admits by default, "about 3 a second" (design section 6).
    pub const PUTS_A_SECOND: u32 = 3;

    /// So many puts a second.
    #[must_use]
    pub fn a_second(puts: u32) -> Self {
        Self { put: Duration::from_secs(1) / puts, full_at: Timestamp(0), refused: 0 }
    }

    /// How many were refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.refused
    }

    fn admits(&mut self, now: Timestamp) -> bool {
        let full_at = self.full_at.max(now).plus(self.put);
        let admitted = full_at.since(now) <= Duration::from_secs(1);
        if admitted {
            self.full_at = full_at;
        } else {
            self.refused += 1;
        }
        admitted
    }
}

impl ParameterStore {
    /// `None`: an operation that is not spoken here.
    pub(super) fn answer(&mut self, operation: &str, body: &Bytes) -> Option<Reply> {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let outcome = match operation {
            "GetParameter" => self.get(&request),
            "GetParameters" => Ok(self.get_many(&request)),
            "PutParameter" => self.put(&request),
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

    fn get_many(&self, request: &Value) -> Value {
        let names = request["Names"].as_array().map(Vec::as_slice).unwrap_or_default();
        let (found, absent): (Vec<&str>, Vec<&str>) =
            names.iter().filter_map(Value::as_str).partition(|name| self.values.contains_key(*name));
        let value = |name: &str| if request["WithDecryption"] == true { &self.values[name] } else { "ciphertext" };
        let found: Vec<Value> = found.iter().map(|name| parameter(name, value(name))).collect();
        json!({ "Parameters": found, "InvalidParameters": absent })
    }

    fn put(&mut self, request: &Value) -> Result<Value, Refusal> {
        if let Some((code, left)) = &mut self.refuses
            && *left > 0
        {
            *left -= 1;
            // As AWS does for some: the message repeats the value.
            return Err(Refusal::new(code, format!("refused: {}", request["Value"])));
        }
        if self.throttle.as_mut().is_some_and(|throttle| !throttle.admits(SystemClock.now())) {
            return Err(Refusal::new("ThrottlingException", "Rate exceeded"));
        }
        let name = name_of(request);
        if self.values.contains_key(name) && request["Overwrite"] != true {
            return Err(Refusal::new("ParameterAlreadyExists", "The parameter already exists."));
        }
        match (request["Type"].as_str(), request["Value"].as_str()) {
            (Some(kind), Some(value)) if (1..=4_096).contains(&value.len()) => {
                self.types.insert(name.to_owned(), kind.to_owned());
                self.values.insert(name.to_owned(), value.to_owned());
                Ok(json!({ "Version": 1, "Tier": "Standard" }))
            }
            (_, _) => Err(Refusal::new("ValidationException", "Type and Value are needed, at most 4096 characters")),
        }
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
    fn a_seconds_worth_of_puts_is_admitted_at_once_and_then_one_in_its_time() {
        let mut throttle = Throttle::a_second(Throttle::PUTS_A_SECOND);
        let begun = Timestamp(1_000_000);
        let admitted = [0, 0, 0, 0, 300, 340, 350].map(|ms| throttle.admits(begun.plus(Duration::from_millis(ms))));
        assert_eq!(admitted, [true, true, true, false, false, true, false]);
        assert_eq!(throttle.refused(), 3);

        let throttle = Some(Throttle { full_at: SystemClock.now().plus(Duration::from_hours(1)), ..throttle });
        let mut store = ParameterStore { throttle, ..ParameterStore::default() };
        let put = json!({ "Name": "/rs/new", "Type": "String", "Value": "v" });
        let reply = store.answer("PutParameter", &Bytes::from(put.to_string())).expect("spoken");
        let (status, _, body) = reply.parts();
        assert!(status == 400 && body.contains("ThrottlingException") && store.values.is_empty(), "{body}");
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
        let put =
            |overwrite: bool| json!({ "Name": "/rs/new", "Type": "String", "Value": "v", "Overwrite": overwrite });
        for (overwrite, expected) in [(false, 200), (false, 400), (true, 200)] {
            assert_eq!(answer("PutParameter", put(overwrite)).0, expected, "over it: {overwrite}");
        }
        let (_, many) = answer("GetParameters", json!({ "Names": ["/rs/new", "/rs/old"], "WithDecryption": false }));
        assert_eq!(
            (&many["Parameters"][0]["Value"], &many["InvalidParameters"]),
            (&json!("ciphertext"), &json!(["/rs/old"]))
        );
        assert_eq!(answer("DeleteParameter", json!({ "Name": "/rs/jit/i-1" })).0, 200);
        let (status, refused) = answer("GetParameter", json!({ "Name": "/rs/jit/i-1" }));
        assert_eq!((status, refused["__type"].as_str()), (400, Some("com.amazonaws#ParameterNotFound")));
        assert_eq!(answer("DescribeParameters", json!({})).0, 400, "a filter is needed");
    }
}
