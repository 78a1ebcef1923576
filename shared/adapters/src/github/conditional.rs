//! Lists that are asked for again and again: each page with the tag of the last answer, so that GitHub sends it, and
//! counts it, only where it has changed.
//!
//! "Making a conditional request does not count against your primary rate limit if a 304 response is returned and the
//! request was made while correctly authorized" (documentation, "Best practices for using the REST API", read
//! 2026-11-26). Nothing is believed for having been read before: GitHub is asked every time.
//!
//! The tags are kept in this process and not in the ledger: GitHub's tags differ from token to token (confirmed by GitHub
//! in eclipse-csi/otterdog issue 201, read 2026-11-26), and tokens never leave a process nor live for more than an hour.
//! So one search an hour, and the first of a process, is paid in full. What is kept is what was understood of a page, not
//! its body: a run alone has ten kilobytes.

use std::collections::BTreeMap;

use http::StatusCode;
use http::header::ETAG;
use runner_scaler_core::error::PortError;
use runner_scaler_core::ids::{InstallationId, Scope};
use runner_scaler_core::ports::Priced;
use runner_scaler_core::time::{Clock, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::client::{Call, GitHub, Page};
use super::pages::{Pages, next_link};
use crate::aws::{Effect, misshapen};
use crate::clock::SystemClock;

/// All that is kept, in bytes: the functions run in 128 MB. More, and a large installation starves the process; less, and
/// what was forgotten is paid for again. What a run's jobs say takes about 300 bytes a job.
const KEPT_BYTES_MAX: usize = 8 << 20;

/// The pages that this process was shown, by installation and address.
#[derive(Debug, Default)]
pub(crate) struct Shown(Mutex<Pool>);

#[derive(Debug, Default)]
struct Pool {
    pages: BTreeMap<Place, Kept>,
    bytes: usize,
}

type Place = (InstallationId, String);

#[derive(Clone, Debug)]
struct Kept {
    tag: String,
    /// The entries that were understood, in JSON.
    entries: Vec<u8>,
    next: Option<String>,
    used_at: Timestamp,
}

impl Kept {
    fn bytes(&self) -> usize {
        self.tag.len() + self.entries.len() + self.next.as_ref().map_or(0, String::len)
    }
}

impl Pool {
    fn take(&mut self, place: &Place) -> Option<Kept> {
        let kept = self.pages.remove(place)?;
        self.bytes -= kept.bytes();
        Some(kept)
    }

    fn put(&mut self, place: Place, kept: Kept) {
        self.take(&place);
        self.bytes += kept.bytes();
        self.pages.insert(place, kept);
        while self.bytes > KEPT_BYTES_MAX {
            let oldest = self.pages.iter().min_by_key(|(_, kept)| kept.used_at).map(|(place, _)| place.clone());
            let Some(oldest) = oldest else { return };
            self.take(&oldest);
        }
    }
}

impl GitHub {
    /// The entries of a list, each page as far as it has changed. Of a list that is shorter than GitHub's count says
    /// there is no telling; it is what GitHub shows.
    pub(super) async fn list_if_changed<P>(
        &self,
        scope: &Scope,
        installation: InstallationId,
        first: String,
    ) -> Result<Priced<Vec<P::Entry>>, PortError>
    where
        P: Page,
        P::Entry: Serialize + DeserializeOwned,
    {
        let mut listed = Priced { value: Vec::new(), charged: 0 };
        let mut pages = Pages::from(first);
        while let Some(call) = pages.next() {
            let place = (installation, call.target.clone());
            let kept = self.shown.0.lock().await.pages.get(&place).cloned();
            let call = Call { unless: kept.as_ref().map(|kept| kept.tag.clone()), ..call };
            let answer = self.as_installation(scope, Some(installation), &call).await?;
            let now = SystemClock.now();
            let unreadable = || misshapen(call.name(), Effect::Read, "readable entries");
            if let (StatusCode::NOT_MODIFIED, Some(kept)) = (answer.status, kept) {
                let entries: Vec<P::Entry> = serde_json::from_slice(&kept.entries).map_err(|_| unreadable())?;
                listed.value.extend(entries);
                let next = kept.next.clone();
                self.shown.0.lock().await.put(place, Kept { used_at: now, ..kept });
                pages.continued(&call, next)?;
                continue;
            }
            listed.charged += 1;
            let (_, entries) = answer.expect::<P>(&call, StatusCode::OK)?.into_parts();
            let next = next_link(&answer.headers);
            if let Some(tag) = answer.headers.get(ETAG).and_then(|tag| tag.to_str().ok()) {
                let text = serde_json::to_vec(&entries).map_err(|_| unreadable())?;
                let kept = Kept { tag: tag.to_owned(), entries: text, next: next.clone(), used_at: now };
                self.shown.0.lock().await.put(place, kept);
            }
            listed.value.extend(entries);
            pages.continued(&call, next)?;
        }
        Ok(listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_is_forgotten_first_and_the_bytes_are_counted() {
        let mut pool = Pool::default();
        let place = |number: u64| (InstallationId(1), number.to_string());
        let page = |used_at| Kept {
            tag: String::new(),
            entries: vec![0; KEPT_BYTES_MAX / 4],
            next: None,
            used_at: Timestamp(used_at),
        };
        for number in 0..4 {
            pool.put(place(number), page(i64::try_from(number).expect("small")));
        }
        pool.put(place(0), page(9));
        assert_eq!(pool.pages.len(), 4, "the same place holds one page");
        pool.put(place(4), page(10));
        let left: Vec<&str> = pool.pages.keys().map(|(_, target)| target.as_str()).collect();
        assert_eq!(left, ["0", "2", "3", "4"]);
        assert_eq!(pool.bytes, KEPT_BYTES_MAX);
    }
}
