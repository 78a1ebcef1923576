//! SSM's parameter store.

use std::collections::BTreeMap;

use axum::body::Bytes;
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
