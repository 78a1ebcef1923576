//! `DynamoDB`, JSON 1.0: the operations that the ledger and the vital signs need, with the limits of the real one (API
//! reference, read 2026-11-20).

use std::collections::{BTreeMap, BTreeSet};

use axum::body::Bytes;
use serde_json::{Map, Value, json};

use super::condition::{Attributes, Condition};
use super::reply::{Refusal, Reply};

/// Keys of one `BatchGetItem`, and items of one transaction.
const ITEMS_MAX: usize = 100;

/// What one page of a query reads at most, in bytes.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// The sparse index and its two keys.
const INDEX: (&str, &str, &str) = ("open", "open_pk", "open_sk");

/// Tables by name.
#[derive(Debug, Default)]
pub struct DynamoDb {
    /// The tables.
    pub tables: BTreeMap<String, Table>,
    /// Transactions that took effect, by `ClientRequestToken`.
    transactions: BTreeMap<String, Value>,
}

/// One table.
#[derive(Debug)]
pub struct Table {
    key: &'static [&'static str],
    items: BTreeMap<Vec<String>, Attributes>,
}

/// What a call answers, or what it refuses with and what it adds to the refusal.
type Outcome = Result<Value, (Refusal, Value)>;

impl Table {
    /// An empty table with these key attributes, all texts.
    #[must_use]
    pub fn new(key: &'static [&'static str]) -> Self {
        Self { key, items: BTreeMap::new() }
    }

    /// Puts an item in `DynamoDB`'s JSON, whatever is there.
    ///
    /// # Panics
    /// It is no item of this table: a mistake of the test that seeds it.
    pub fn seed(&mut self, item: Value) {
        let Value::Object(item) = item else { panic!("an item is an object") };
        let key = self.key_of(&item).expect("a seeded item has the table's key");
        self.items.insert(key, item);
    }

    /// The items in `DynamoDB`'s JSON, in the order of their keys.
    pub fn items(&self) -> impl Iterator<Item = &Map<String, Value>> {
        self.items.values()
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn key_of(&self, attributes: &Attributes) -> Result<Vec<String>, Refusal> {
        let text = |name: &&str| attributes.get(*name).and_then(|value| value["S"].as_str()).map(str::to_owned);
        self.key
            .iter()
            .map(text)
            .collect::<Option<_>>()
            .ok_or_else(|| invalid("The provided key element does not match"))
    }

    fn get(&self, key: &Value) -> Result<Option<&Attributes>, Refusal> {
        let key = key.as_object().filter(|key| key.len() == self.key.len()).ok_or_else(|| invalid("no key"))?;
        Ok(self.items.get(&self.key_of(key)?))
    }
}

/// A put whose condition held.
struct Put {
    table: String,
    key: Vec<String>,
    item: Attributes,
}

/// What a put came to.
enum Checked {
    Holds(Put),
    /// Its condition does not hold over what is there.
    Fails(Option<Attributes>),
}

impl DynamoDb {
    /// These tables.
    #[must_use]
    pub fn new(tables: impl IntoIterator<Item = (String, Table)>) -> Self {
        Self { tables: tables.into_iter().collect(), transactions: BTreeMap::new() }
    }

    /// `None`: an operation that is not spoken here.
    pub(super) fn answer(&mut self, operation: &str, body: &Bytes) -> Option<Reply> {
        let request: Value = serde_json::from_slice(body).unwrap_or_default();
        let outcome = match operation {
            "GetItem" => self.get(&request).map_err(plain),
            "BatchGetItem" => self.batch_get(&request).map_err(plain),
            "PutItem" => self.put(&request),
            "Query" => self.query(&request).map_err(plain),
            "TransactWriteItems" => self.transact(&request),
            _ => return None,
        };
        Some(Reply::of_json_service(outcome))
    }

    fn table(&self, name: &Value) -> Result<&Table, Refusal> {
        let name = name.as_str().unwrap_or_default();
        self.tables.get(name).ok_or_else(|| Refusal::new("ResourceNotFoundException", format!("no table {name:?}")))
    }

    fn get(&self, request: &Value) -> Result<Value, Refusal> {
        only(request, &["TableName", "Key", "ConsistentRead"])?;
        let item = self.table(&request["TableName"])?.get(&request["Key"])?;
        Ok(item.map_or_else(|| json!({}), |item| json!({ "Item": item })))
    }

    fn batch_get(&self, request: &Value) -> Result<Value, Refusal> {
        only(request, &["RequestItems"])?;
        let asked = request["RequestItems"].as_object().ok_or_else(|| invalid("no RequestItems"))?;
        let mut responses = Attributes::new();
        let mut seen = BTreeSet::new();
        for (name, of_table) in asked {
            only(of_table, &["Keys", "ConsistentRead"])?;
            let table = self.table(&Value::from(name.as_str()))?;
            let keys = of_table["Keys"].as_array().ok_or_else(|| invalid("no Keys"))?;
            let mut items = Vec::new();
            for key in keys {
                if !seen.insert((name, key.to_string())) {
                    return Err(invalid("Provided list of item keys contains duplicates"));
                }
                items.extend(table.get(key)?.cloned().map(Value::Object));
            }
            responses.insert(name.clone(), Value::Array(items));
        }
        if seen.is_empty() || seen.len() > ITEMS_MAX {
            return Err(invalid("Too many items requested for the BatchGetItem call, or none"));
        }
        Ok(json!({ "Responses": responses, "UnprocessedKeys": {} }))
    }

    fn put(&mut self, request: &Value) -> Outcome {
        match self.checked_put(request).map_err(plain)? {
            Checked::Holds(put) => {
                self.carry_out(put);
                Ok(json!({}))
            }
            Checked::Fails(stored) => {
                let refusal = Refusal::new("ConditionalCheckFailedException", "The conditional request failed");
                let told = stored.filter(|_| request["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD");
                Err((refusal, told.map_or_else(|| json!({}), |stored| json!({ "Item": stored }))))
            }
        }
    }

    /// All or nothing, each item's condition against what is there before; a token that was seen changes nothing more.
    fn transact(&mut self, request: &Value) -> Outcome {
        only(request, &["TransactItems", "ClientRequestToken"]).map_err(plain)?;
        let token = request["ClientRequestToken"].as_str();
        match token.and_then(|token| self.transactions.get(token)) {
            Some(done) if *done == request["TransactItems"] => return Ok(json!({})),
            Some(_) => return Err(plain(Refusal::new("IdempotentParameterMismatchException", "the token was used"))),
            None => {}
        }
        let items = request["TransactItems"].as_array().map(Vec::as_slice).unwrap_or_default();
        if items.is_empty() || items.len() > ITEMS_MAX {
            return Err(plain(invalid("Member must have length less than or equal to 100, and more than none")));
        }
        let mut puts = Vec::new();
        let mut reasons = Vec::new();
        let mut targets = BTreeSet::new();
        for item in items {
            only(item, &["Put"]).map_err(plain)?;
            match self.checked_put(&item["Put"]).map_err(plain)? {
                Checked::Holds(put) => {
                    if !targets.insert((put.table.clone(), put.key.clone())) {
                        return Err(plain(invalid("Transaction request cannot include two operations on one item")));
                    }
                    puts.push(put);
                    reasons.push(json!({ "Code": "None" }));
                }
                Checked::Fails(_) => reasons.push(json!({ "Code": "ConditionalCheckFailed" })),
            }
        }
        if puts.len() < items.len() {
            let refusal = Refusal::new("TransactionCanceledException", "Transaction cancelled");
            return Err((refusal, json!({ "CancellationReasons": reasons })));
        }
        for put in puts {
            self.carry_out(put);
        }
        if let Some(token) = token {
            self.transactions.insert(token.to_owned(), request["TransactItems"].clone());
        }
        Ok(json!({}))
    }

    fn checked_put(&self, request: &Value) -> Result<Checked, Refusal> {
        only(
            request,
            &[
                "TableName",
                "Item",
                "ConditionExpression",
                "ExpressionAttributeNames",
                "ExpressionAttributeValues",
                "ReturnValuesOnConditionCheckFailure",
            ],
        )?;
        let table = self.table(&request["TableName"])?;
        let item = request["Item"].as_object().ok_or_else(|| invalid("no Item"))?;
        let key = table.key_of(item)?;
        let stored = table.items.get(&key);
        if let Some(text) = request["ConditionExpression"].as_str() {
            let (names, values) = (&request["ExpressionAttributeNames"], &request["ExpressionAttributeValues"]);
            if !Condition::parse(text, names, values)?.holds(stored) {
                return Ok(Checked::Fails(stored.cloned()));
            }
        }
        let name = request["TableName"].as_str().unwrap_or_default().to_owned();
        Ok(Checked::Holds(Put { table: name, key, item: item.clone() }))
    }

    fn carry_out(&mut self, put: Put) {
        if let Some(table) = self.tables.get_mut(&put.table) {
            table.items.insert(put.key, put.item);
        }
    }

    /// A page of the sparse index, which ends at the limit or after 1 MB, whichever comes first.
    fn query(&self, request: &Value) -> Result<Value, Refusal> {
        only(
            request,
            &[
                "TableName",
                "IndexName",
                "KeyConditionExpression",
                "ExpressionAttributeNames",
                "ExpressionAttributeValues",
                "Limit",
                "ExclusiveStartKey",
            ],
        )?;
        let (index, partition, sort) = INDEX;
        if request["IndexName"] != index {
            return Err(invalid("only the index is queried"));
        }
        let table = self.table(&request["TableName"])?;
        let condition = Condition::parse(
            request["KeyConditionExpression"].as_str().unwrap_or_default(),
            &request["ExpressionAttributeNames"],
            &request["ExpressionAttributeValues"],
        )?;
        let place = |item: &Attributes| {
            let text = |name: &str| item.get(name).and_then(|value| value["S"].as_str()).map(str::to_owned);
            Some((text(partition)?, text(sort)?, table.key_of(item).ok()?))
        };
        let after = request["ExclusiveStartKey"].as_object().and_then(place);
        let mut matching: Vec<_> = table
            .items
            .values()
            .filter(|item| condition.holds(Some(item)))
            .filter_map(|item| Some((place(item)?, item)))
            .filter(|(place, _)| after.as_ref().is_none_or(|after| place > after))
            .collect();
        matching.sort_by(|(one, _), (other, _)| one.cmp(other));
        let limit = request["Limit"].as_u64().and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut shown = Vec::new();
        let mut last = None;
        for (_, item) in matching {
            shown.push(item);
            bytes += size_of(item);
            if shown.len() >= limit || bytes >= PAGE_BYTES_MAX {
                let names = table.key.iter().copied().chain([partition, sort]);
                last = Some(names.map(|name| (name.to_owned(), item[name].clone())).collect::<Attributes>());
                break;
            }
        }
        let mut answer = json!({ "Items": shown, "Count": shown.len(), "ScannedCount": shown.len() });
        if let (Some(last), Some(answer)) = (last, answer.as_object_mut()) {
            answer.insert("LastEvaluatedKey".to_owned(), Value::Object(last));
        }
        Ok(answer)
    }
}

/// Names and values; close to `DynamoDB`'s own counting, in which a number takes about half a byte a digit.
fn size_of(item: &Attributes) -> usize {
    let value = |value: &Value| {
        let text = value["S"].as_str().map(str::len);
        text.unwrap_or_else(|| value["N"].as_str().map_or(1, |number| number.len() / 2 + 1))
    };
    item.iter().map(|(name, attribute)| name.len() + value(attribute)).sum()
}

/// Refuses a request that says more than this server understands: left unread, it would change what is counted.
fn only(request: &Value, known: &[&str]) -> Result<(), Refusal> {
    let foreign = request.as_object().and_then(|fields| fields.keys().find(|name| !known.contains(&name.as_str())));
    foreign.map_or(Ok(()), |name| Err(invalid(format!("the counting server does not speak {name}"))))
}

/// A refusal that says nothing more.
fn plain(refusal: Refusal) -> (Refusal, Value) {
    (refusal, json!({}))
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("ValidationException", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: usize, version: u64) -> Value {
        json!({
            "pk": { "S": format!("instance#{id:04}") }, "sk": { "S": "v" }, "version": { "N": version.to_string() },
            "open_pk": { "S": "instance" }, "open_sk": { "S": format!("{id:04}") },
        })
    }

    fn dynamodb(count: usize) -> DynamoDb {
        let mut table = Table::new(&["pk", "sk"]);
        for id in 0..count {
            table.seed(item(id, 1));
        }
        DynamoDb::new([("ledger".to_owned(), table)])
    }

    fn call(dynamodb: &mut DynamoDb, operation: &str, request: &Value) -> (u16, Value) {
        let reply = dynamodb.answer(operation, &Bytes::from(request.to_string())).expect("spoken");
        let (status, _, body) = reply.parts();
        (status, serde_json::from_str(body).expect("JSON"))
    }

    fn put(id: usize, seen: u64) -> Value {
        json!({
            "TableName": "ledger", "Item": item(id, seen + 1), "ConditionExpression": "version = :version",
            "ExpressionAttributeValues": { ":version": { "N": seen.to_string() } },
        })
    }

    #[test]
    fn a_write_takes_effect_only_over_the_version_that_was_read() {
        let mut dynamodb = dynamodb(2);
        assert_eq!(call(&mut dynamodb, "PutItem", &put(0, 1)).0, 200);
        let mut again = put(0, 1);
        let (status, refused) = call(&mut dynamodb, "PutItem", &again);
        assert_eq!((status, &refused["__type"]), (400, &json!("com.amazonaws#ConditionalCheckFailedException")));
        assert!(refused["Item"].is_null());
        again["ReturnValuesOnConditionCheckFailure"] = json!("ALL_OLD");
        assert_eq!(call(&mut dynamodb, "PutItem", &again).1["Item"], item(0, 2), "what lies there instead");
        let both = json!({ "TransactItems": [{ "Put": put(1, 1) }, { "Put": put(0, 1) }] });
        let (status, refused) = call(&mut dynamodb, "TransactWriteItems", &both);
        let codes = json!([{ "Code": "None" }, { "Code": "ConditionalCheckFailed" }]);
        assert_eq!((status, &refused["CancellationReasons"]), (400, &codes));
        let key = json!({ "TableName": "ledger", "Key": { "pk": { "S": "instance#0001" }, "sk": { "S": "v" } } });
        assert_eq!(call(&mut dynamodb, "GetItem", &key).1["Item"]["version"]["N"], "1", "nothing of it was done");
        let mut both =
            json!({ "TransactItems": [{ "Put": put(1, 1) }, { "Put": put(0, 2) }], "ClientRequestToken": "t" });
        for attempt in ["the first", "a repetition under its token"] {
            assert_eq!(call(&mut dynamodb, "TransactWriteItems", &both).0, 200, "{attempt}");
        }
        both["TransactItems"][0]["Put"] = put(1, 2);
        assert_eq!(call(&mut dynamodb, "TransactWriteItems", &both).0, 400, "something else under that token");
        assert_eq!(call(&mut dynamodb, "GetItem", &key).1["Item"]["version"]["N"], "2");
    }

    #[test]
    fn a_batch_takes_a_hundred_different_keys() {
        let mut dynamodb = dynamodb(101);
        let batch = |ids: &mut dyn Iterator<Item = usize>| {
            let keys: Vec<_> =
                ids.map(|id| json!({ "pk": { "S": format!("instance#{id:04}") }, "sk": { "S": "v" } })).collect();
            json!({ "RequestItems": { "ledger": { "Keys": keys, "ConsistentRead": true } } })
        };
        let (_, read) = call(&mut dynamodb, "BatchGetItem", &batch(&mut (50..150)));
        assert_eq!(read["Responses"]["ledger"].as_array().map(Vec::len), Some(51));
        for (case, request) in [
            ("too many", batch(&mut (0..101))),
            ("one twice", batch(&mut [1, 1].into_iter())),
            ("none", batch(&mut (0..0))),
        ] {
            assert_eq!(call(&mut dynamodb, "BatchGetItem", &request).0, 400, "{case}");
        }
    }

    #[test]
    fn the_index_is_read_in_order_and_in_pages() {
        let mut dynamodb = dynamodb(5);
        let query = |start: &Value| {
            json!({
                "TableName": "ledger", "IndexName": "open", "Limit": 3, "ExclusiveStartKey": start,
                "KeyConditionExpression": "open_pk = :p AND open_sk < :end",
                "ExpressionAttributeValues": { ":p": { "S": "instance" }, ":end": { "S": "0004" } },
            })
        };
        let (_, first) = call(&mut dynamodb, "Query", &query(&Value::Null));
        let (_, second) = call(&mut dynamodb, "Query", &query(&first["LastEvaluatedKey"]));
        let ids = |page: &Value| -> Vec<String> {
            let items = page["Items"].as_array().cloned().unwrap_or_default();
            items.iter().filter_map(|item| item["open_sk"]["S"].as_str().map(str::to_owned)).collect()
        };
        assert_eq!(
            (ids(&first), ids(&second)),
            (vec!["0000".into(), "0001".into(), "0002".into()], vec!["0003".into()])
        );
        assert!(second["LastEvaluatedKey"].is_null());
    }

    #[test]
    fn a_page_of_the_index_ends_after_a_megabyte() {
        let mut dynamodb = dynamodb(0);
        let table = dynamodb.tables.get_mut("ledger").expect("it was made");
        for id in 0..5 {
            let mut item = item(id, 1);
            item["body"] = json!({ "S": "x".repeat(300_000) });
            table.seed(item);
        }
        let query = json!({
            "TableName": "ledger", "IndexName": "open", "KeyConditionExpression": "open_pk = :p",
            "ExpressionAttributeValues": { ":p": { "S": "instance" } },
        });
        let (_, page) = call(&mut dynamodb, "Query", &query);
        assert_eq!((&page["Count"], &page["LastEvaluatedKey"]["pk"]["S"]), (&json!(4), &json!("instance#0003")));
    }

    #[test]
    fn a_request_that_says_more_than_is_understood_is_refused() {
        let mut dynamodb = dynamodb(1);
        let mut request = put(0, 1);
        request["ReturnValues"] = json!("NONE");
        assert_eq!(call(&mut dynamodb, "PutItem", &request).0, 400);
        assert!(dynamodb.answer("UpdateItem", &Bytes::new()).is_none());
    }
}
