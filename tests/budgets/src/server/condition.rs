//! `DynamoDB`'s condition and key condition expressions, as far as the adapters write them: terms joined by `AND`.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::reply::Refusal;

/// An item, or a key, in `DynamoDB`'s JSON.
pub(super) type Attributes = Map<String, Value>;

/// Every term must hold.
#[derive(Debug)]
pub(super) struct Condition(Vec<Term>);

#[derive(Debug)]
enum Term {
    Exists(String),
    Missing(String),
    Compares(String, fn(Ordering) -> bool, Value),
}

impl Condition {
    /// Reads an expression; `names` and `values` are the request's `ExpressionAttributeNames` and `…Values`.
    ///
    /// # Errors
    /// It says something that this server does not know. Taken for true, it would make a compare-and-swap a put.
    pub(super) fn parse(text: &str, names: &Value, values: &Value) -> Result<Self, Refusal> {
        text.split(" AND ").map(|term| parse_term(term.trim(), names, values)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether it holds for what is stored; nothing stored has no attributes.
    pub(super) fn holds(&self, stored: Option<&Attributes>) -> bool {
        let attribute = |name: &str| stored.and_then(|stored| stored.get(name));
        self.0.iter().all(|term| match term {
            Term::Exists(name) => attribute(name).is_some(),
            Term::Missing(name) => attribute(name).is_none(),
            Term::Compares(name, accepts, value) => {
                attribute(name).and_then(|stored| compared(stored, value)).is_some_and(accepts)
            }
        })
    }
}

fn parse_term(term: &str, names: &Value, values: &Value) -> Result<Term, Refusal> {
    let unknown = || Refusal::new("ValidationException", format!("Invalid expression: {term}"));
    let name_of = |text: &str| match text.strip_prefix('#') {
        Some(_) => names.get(text).and_then(Value::as_str).map(str::to_owned),
        None => text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_').then(|| text.to_owned()),
    };
    let argument = |function: &str| term.strip_prefix(function)?.strip_prefix('(')?.strip_suffix(')');
    if let Some(name) = argument("attribute_not_exists") {
        return name_of(name).map(Term::Missing).ok_or_else(unknown);
    }
    if let Some(name) = argument("attribute_exists") {
        return name_of(name).map(Term::Exists).ok_or_else(unknown);
    }
    let mut words = term.split_whitespace();
    let (Some(name), Some(operator), Some(value), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(unknown());
    };
    let accepts: fn(Ordering) -> bool = match operator {
        "=" => Ordering::is_eq,
        "<>" => Ordering::is_ne,
        "<" => Ordering::is_lt,
        "<=" => Ordering::is_le,
        ">" => Ordering::is_gt,
        ">=" => Ordering::is_ge,
        _ => return Err(unknown()),
    };
    match (name_of(name), values.get(value)) {
        (Some(name), Some(value)) => Ok(Term::Compares(name, accepts, value.clone())),
        (_, _) => Err(unknown()),
    }
}

/// Values of two types are neither equal nor ordered.
fn compared(one: &Value, other: &Value) -> Option<Ordering> {
    let text = |value: &Value| value.get("S").and_then(Value::as_str).map(str::to_owned);
    let number = |value: &Value| value.get("N").and_then(Value::as_str)?.parse::<i128>().ok();
    match (text(one), text(other), number(one), number(other)) {
        (Some(one), Some(other), _, _) => Some(one.cmp(&other)),
        (_, _, Some(one), Some(other)) => Some(one.cmp(&other)),
        (_, _, _, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_is_evaluated_against_what_is_stored() {
        let stored = json!({ "pk": { "S": "b" }, "version": { "N": "10" } });
        let stored = stored.as_object().expect("an object");
        let values = json!({ ":version": { "N": "10" }, ":nine": { "N": "9" }, ":text": { "S": "10" } });
        for (case, text, of_stored, of_nothing) in [
            ("nothing may be there", "attribute_not_exists(pk)", false, true),
            ("something must be there", "attribute_exists(pk)", true, false),
            ("the version read is the version there", "version = :version", true, false),
            ("another version was read", "version = :nine", false, false),
            ("numbers are compared as numbers", "version > :nine", true, false),
            ("a number is no text", "version = :text", false, false),
            ("both terms must hold", "version = :version AND attribute_not_exists(pk)", false, false),
            ("a name of the request", "#v >= :version", true, false),
        ] {
            let condition = Condition::parse(text, &json!({ "#v": "version" }), &values).expect(case);
            assert_eq!((condition.holds(Some(stored)), condition.holds(None)), (of_stored, of_nothing), "{case}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_and_not_taken_for_true() {
        for text in ["", "size(body) < :n", "a = :missing", "a = :n OR b = :n", "NOT a = :n", "#n = :n", "a ~ :n"] {
            let parsed = Condition::parse(text, &Value::Null, &json!({ ":n": { "N": "1" } }));
            assert_eq!(parsed.err().map(|refusal| refusal.code), Some("ValidationException"), "{text:?}");
        }
    }
}
