//! What a refused delivery leaves in the log: a reason, and nothing that helps whoever sent it.

use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::signature::tests::sign;
use super::{Body, HttpRequest, Taken, WebhookSecrets, handle};
use crate::fake::{Fake, policy, run};
use crate::time::Timestamp;

const SECRET: &str = "a secret of a good length";

/// Everything that is logged, fields of spans included, as one text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Log {
    fn text(&self) -> String {
        self.0.lock().expect("no test panics while it logs").clone()
    }
}

impl Visit for &Log {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = self.0.lock().expect("no test panics while it logs");
        writeln!(text, "{field}={value:?}").expect("a text takes all");
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        span.record(&mut &*self);
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut &*self);
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        event.record(&mut &*self);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn a_refusal_tells_the_log_neither_what_was_sent_nor_what_would_have_been_right() {
    let body = br#"{"action": "queued", "forged": "by a stranger"}"#;
    let right = sign(SECRET, body);
    let digits = right.strip_prefix("sha256=").expect("as GitHub writes it").to_owned();
    let wrong = sign("a secret that is not ours", body);
    for (case, signature) in
        [("of another secret", Some(wrong.clone())), ("none", None), ("cut", Some(right[..40].into()))]
    {
        let mut headers = vec![
            ("x-github-event".to_owned(), "workflow_job".to_owned()),
            ("content-type".to_owned(), "application/json".to_owned()),
        ];
        headers.extend(signature.map(|signature| ("x-hub-signature-256".to_owned(), signature)));
        let request = HttpRequest {
            method: "POST".to_owned(),
            headers,
            body: Body::Text(String::from_utf8(body.to_vec()).expect("UTF-8")),
        };
        let secrets = WebhookSecrets::parse(SECRET).expect("long enough");
        let handle =
            |request| run(handle(&Fake::new(), &policy(), &secrets, request, Timestamp(9))).expect("not killed");
        // Where another test's thread comes to a line first, tracing remembers that nobody listened there: so each line is
        // come to once, and asked about anew when somebody does.
        handle(request.clone());
        let log = Log::default();
        let handled = tracing::subscriber::with_default(log.clone(), || {
            tracing::callsite::rebuild_interest_cache();
            handle(request)
        });
        assert!(matches!(handled.taken, Taken::Unsigned(_)), "{case}: {handled:?}");
        let text = log.text();
        assert!(text.contains("refused a delivery"), "{case}: it is told: {text}");
        for (what, secret) in [
            ("the right signature", digits.as_str()),
            ("the secret", SECRET),
            ("what was sent as signature", &wrong[7..]),
            ("the body", "by a stranger"),
        ] {
            assert!(!text.contains(secret), "{case}: the log tells {what}");
        }
    }
}
