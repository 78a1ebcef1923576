//! Items of the ledger as they lie in the table.

use aws_sdk_dynamodb::types::AttributeValue;
use runner_scaler_core::ids::FleetName;
use runner_scaler_core::ports::{Body, Item, Key, Kind, OpenPartition};
use runner_scaler_core::time::Timestamp;

use super::Attributes;

/// The sort key of every record.
const SORT_KEY: &str = "v";

/// Schema of an item whose shape we cannot read. No record has it, so the core leaves such an item alone.
const UNREADABLE: u32 = 0;

/// Every kind of record.
const KINDS: [Kind; 9] = [
    Kind::Instance,
    Kind::Launch,
    Kind::Job,
    Kind::Fleet,
    Kind::OrphanEvent,
    Kind::Cursor,
    Kind::Breaker,
    Kind::Offering,
    Kind::Miss,
];

/// The key of a record.
pub(super) fn key_attributes(key: &Key) -> Attributes {
    Attributes::from([("pk".to_owned(), text(key.to_string())), ("sk".to_owned(), text(SORT_KEY))])
}

/// An item, to be put.
pub(super) fn encode(item: &Item) -> Attributes {
    let mut attributes = key_attributes(&item.key);
    let mut set = |name: &str, value| {
        attributes.insert(name.to_owned(), value);
    };
    set("version", number(item.version));
    set("schema", number(item.schema));
    set("body", text(item.body.as_str()));
    if let Some((partition, at)) = &item.open {
        set("open_pk", text(partition.to_string()));
        set("open_sk", text(format!("{}#{}", open_time(*at), item.key.id)));
    }
    if let Some(at) = item.expires_at {
        set("expires_at", number(at.0 / 1_000));
    }
    attributes
}

/// An item as read. `None` when it has no key of ours; an item of another shape is shown with a schema that nobody
/// knows, never left out: it exists.
pub(super) fn decode(attributes: &Attributes) -> Option<Item> {
    let key = key_of(text_of(attributes, "pk")?)?;
    let readable = || {
        Some(Item {
            key: key.clone(),
            version: number_of(attributes, "version")?,
            schema: number_of(attributes, "schema")?,
            body: Body::new(text_of(attributes, "body")?),
            open: open_of(attributes),
            expires_at: number_of::<i64>(attributes, "expires_at").map(|s| Timestamp(s.saturating_mul(1_000))),
        })
    };
    Some(readable().unwrap_or_else(|| Item {
        key: key.clone(),
        version: 0,
        schema: UNREADABLE,
        body: Body::new("null"),
        open: None,
        expires_at: None,
    }))
}

/// Start of the sort key of the index: milliseconds, padded so that text order is time order.
pub(super) fn open_time(at: Timestamp) -> String {
    format!("{:020}", at.0.max(0))
}

fn key_of(pk: &str) -> Option<Key> {
    let (kind, id) = pk.split_once('#')?;
    let kind = KINDS.into_iter().find(|known| known.as_str() == kind)?;
    Some(Key { kind, id: id.to_owned() })
}

fn open_of(attributes: &Attributes) -> Option<(OpenPartition, Timestamp)> {
    let partition = match text_of(attributes, "open_pk")? {
        "instance" => OpenPartition::Instances,
        "fleet" => OpenPartition::Fleets,
        other => OpenPartition::Jobs(FleetName::new(other.strip_prefix("job#")?)),
    };
    let (time, _) = text_of(attributes, "open_sk")?.split_once('#')?;
    Some((partition, Timestamp(time.parse().ok()?)))
}

/// A text attribute.
pub(super) fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// A number attribute.
pub(super) fn number(value: impl Into<i128>) -> AttributeValue {
    AttributeValue::N(value.into().to_string())
}

/// The text of an attribute.
pub(super) fn text_of<'a>(attributes: &'a Attributes, name: &str) -> Option<&'a str> {
    attributes.get(name)?.as_s().ok().map(String::as_str)
}

/// The number of an attribute.
pub(super) fn number_of<N: std::str::FromStr>(attributes: &Attributes, name: &str) -> Option<N> {
    attributes.get(name)?.as_n().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Item {
        Item {
            key: Key { kind: Kind::OrphanEvent, id: "octo/hello#runner-i-1".to_owned() },
            version: 3,
            schema: 1,
            body: serde_json::json!({ "a": [1, null] }).into(),
            open: Some((OpenPartition::Jobs(FleetName::new("linux")), Timestamp(1_700_000_000_123))),
            expires_at: Some(Timestamp(1_700_000_000_000)),
        }
    }

    #[test]
    fn an_item_is_read_back_as_it_was_written() {
        let closed = Item { open: None, expires_at: None, ..item() };
        let instance = Item { open: Some((OpenPartition::Instances, Timestamp(5))), ..item() };
        for item in [item(), closed, instance] {
            assert_eq!(decode(&encode(&item)), Some(item));
        }
    }

    #[test]
    fn every_kind_is_read_back() {
        for kind in KINDS {
            let item = Item { key: Key { kind, id: "github#octo".to_owned() }, ..item() };
            assert_eq!(decode(&encode(&item)), Some(item), "{kind:?}");
        }
    }

    #[test]
    fn only_open_items_are_in_the_index_and_only_closed_ones_expire() {
        let attributes = encode(&Item { open: None, expires_at: None, ..item() });
        let mut names: Vec<_> = attributes.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["body", "pk", "schema", "sk", "version"]);
        assert_eq!(text_of(&encode(&item()), "open_sk"), Some("00000001700000000123#octo/hello#runner-i-1"));
        assert_eq!(number_of::<u64>(&encode(&item()), "expires_at"), Some(1_700_000_000), "seconds, as TTL wants them");
    }

    #[test]
    fn an_item_of_another_shape_is_shown_and_not_left_out() {
        for broken in ["version", "schema", "body"] {
            let mut attributes = encode(&item());
            attributes.insert(broken.to_owned(), AttributeValue::Bool(true));
            let shown = decode(&attributes).expect("it has a key");
            assert_eq!((shown.key, shown.schema), (item().key, UNREADABLE), "{broken}");
        }
        let foreign = Attributes::from([("pk".to_owned(), text("wish#octo"))]);
        assert_eq!(decode(&foreign), None, "a kind of a newer version");
    }

    #[test]
    fn text_order_is_time_order() {
        let mut times = [Timestamp(10), Timestamp(9), Timestamp(i64::MAX), Timestamp(1_700_000_000_000)].map(open_time);
        times.sort_unstable();
        assert_eq!(times, [9, 10, 1_700_000_000_000, i64::MAX].map(|ms| open_time(Timestamp(ms))));
    }
}
