//! What is tried again, and what never is.

use super::*;

#[tokio::test]
async fn a_read_that_github_fails_is_tried_again_and_a_change_is_not() {
    for (case, statuses, expected, tries) in [
        ("it is back at the third", vec![502, 502, 200], Ok(()), 3),
        ("it is back at the second", vec![503, 200], Ok(()), 2),
        ("it is not back", vec![504, 504, 504, 200], Err(Class::Transient), 3),
        ("a fault that is none of a moment", vec![500, 200], Err(Class::Transient), 1),
        ("a refusal", vec![403, 200], Err(Class::Denied), 1),
    ] {
        let nth = AtomicUsize::new(0);
        let wire = Wire::start(move |seen| {
            let status = || statuses[nth.fetch_add(1, Ordering::SeqCst)];
            seen.target.starts_with("/orgs").then(|| Reply::new(status(), runner(5)))
        })
        .await;
        let read = wire.adapters().runner(&organization(), RunnerId(5)).await;
        assert_eq!(read.map(|_| ()).map_err(|error| error.class()), expected, "{case}");
        assert_eq!(wire.calls().len(), tries, "{case}");
    }
    for status in [502, 503, 504] {
        let wire = Wire::start(move |seen| seen.target.starts_with("/orgs").then(|| Reply::new(status, "{}"))).await;
        let adapters = wire.adapters();
        let made = adapters.generate_jit_config(&organization(), &request()).await.expect_err("a fault");
        let deleted = delete(&adapters).await.expect_err("a fault");
        assert_eq!((made.class(), deleted.class()), (Class::OutcomeUnknown, Class::OutcomeUnknown), "{status}");
        assert_eq!(wire.calls().len(), 2, "{status}: each was sent once");
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_tried_again_for_a_read_and_not_for_a_change() {
    // Each connection is closed before its request is answered; the third read has its answer.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let taken = std::sync::Arc::new(AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&taken);
    let closing = tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            drop(connection);
        }
    });
    let wire = Wire::start(|_| None).await;
    let mut adapters = wire.adapters();
    let access = organization();
    adapters.runner(&access, RunnerId(5)).await.expect_err("418, but a token was made");
    adapters.github.base_url = format!("http://{address}");
    let read = adapters.runner(&access, RunnerId(5)).await.expect_err("closed");
    assert_eq!((read.class(), taken.swap(0, Ordering::SeqCst)), (Class::Transient, 3));
    let deleted = delete(&adapters).await.expect_err("closed");
    assert_eq!((deleted.class(), taken.load(Ordering::SeqCst)), (Class::OutcomeUnknown, 1));
    closing.abort();
}
