//! Paths, queries and pages of GitHub's API.

use std::fmt::Write;

use http::header::LINK;
use http::{HeaderMap, Uri};
use runner_scaler_core::error::{Class, PortError};
use runner_scaler_core::ids::Scope;

use super::client::{Answer, Call};

/// Pages of one listing; 100 entries each. GitHub has at most 10,000 runners a group (facts of its limits, read
/// 2026-11-20), so a longer row of pages leads in a circle.
const PAGES_MAX: usize = 1_000;

/// The pages of one listing that are still to be read.
#[derive(Debug)]
pub(super) struct Pages {
    next: Option<Call>,
    read: usize,
}

impl Pages {
    /// Beginning with that address.
    pub(super) fn from(target: String) -> Self {
        Self { next: Some(Call::get(target)), read: 0 }
    }

    /// The next page to ask for.
    pub(super) fn next(&mut self) -> Option<Call> {
        self.next.take()
    }

    /// Takes the answer to a page: its `Link` names the next, which is followed as it is (GitHub's rule).
    pub(super) fn answered(&mut self, call: &Call, answer: &Answer) -> Result<(), PortError> {
        self.continued(call, next_link(&answer.headers))
    }

    /// The same where it is known what the next page is.
    pub(super) fn continued(&mut self, call: &Call, next: Option<String>) -> Result<(), PortError> {
        self.read += 1;
        if self.read >= PAGES_MAX || next.as_deref() == Some(call.target.as_str()) {
            return Err(PortError::new(call.name(), Class::Transient, "the pages lead in a circle"));
        }
        self.next = next.map(Call::get);
        Ok(())
    }
}

/// Login of a scope's owner: whose installation reaches it.
pub(super) fn owner_of(scope: &Scope) -> &str {
    match scope {
        Scope::Organization { owner } | Scope::Repository { owner, .. } => owner,
    }
}

/// Path of a scope: `/orgs/{org}` or `/repos/{owner}/{name}`.
pub(super) fn scope_path(scope: &Scope) -> String {
    match scope {
        Scope::Organization { owner } => format!("/orgs/{}", encoded(owner)),
        Scope::Repository { owner, name } => format!("/repos/{}/{}", encoded(owner), encoded(name)),
    }
}

/// One segment of a path or one value of a query, percent-encoded, so that a tag's text can never steer a request.
pub(super) fn encoded(text: &str) -> String {
    let dots_only = text.bytes().all(|byte| byte == b'.');
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'~') || (byte == b'.' && !dots_only);
        if plain {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// The whole address of a path and query below the base URL, or of a whole URL; `None` when it leads away from GitHub,
/// where our token must not go.
pub(super) fn address(base_url: &str, target: &str) -> Option<Uri> {
    if target.starts_with('/') {
        return format!("{base_url}{target}").parse().ok();
    }
    let uri: Uri = target.parse().ok()?;
    same_origin(&uri, &base_url.parse().ok()?).then_some(uri)
}

/// Whether two addresses have the same scheme, host and port.
fn same_origin(one: &Uri, other: &Uri) -> bool {
    let scheme = |uri: &Uri| uri.scheme_str().unwrap_or_default().to_ascii_lowercase();
    let host = |uri: &Uri| uri.host().unwrap_or_default().to_ascii_lowercase();
    let port = |uri: &Uri| uri.port_u16().or_else(|| if scheme(uri) == "https" { Some(443) } else { Some(80) });
    let plain = |uri: &Uri| uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    (scheme(one), host(one), port(one)) == (scheme(other), host(other), port(other)) && plain(one) && plain(other)
}

/// The address that `Link` marks `rel="next"`.
pub(super) fn next_link(headers: &HeaderMap) -> Option<String> {
    headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).find_map(
        |link| {
            let (address, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            let is_next = parameters.split(';').any(|parameter| {
                parameter.trim().strip_prefix("rel=").is_some_and(|rel| rel.trim_matches('"') == "next")
            });
            is_next.then(|| address.to_owned())
        },
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_next_page_is_the_one_marked_next() {
        for (link, expected) in [
            ("", None),
            (r#"<https://h/x?page=1>; rel="prev", <https://h/x?page=9>; rel="last""#, None),
            (r#"<https://h/x?page=1>; rel="prev", <https://h/x?page=3>; rel="next""#, Some("https://h/x?page=3")),
            (r"<https://h/x?cursor=v1_9>; rel=next", Some("https://h/x?cursor=v1_9")),
            (r#"<https://h/x>; title="rel=next""#, None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(LINK, HeaderValue::from_static(link));
            assert_eq!(next_link(&headers).as_deref(), expected, "{link}");
        }
    }

    #[test]
    fn a_path_is_below_the_base_url_and_a_page_is_where_its_link_says() {
        let page = |base: &str| format!("{base}/orgs/octo/actions/runners?page=2");
        for base in ["https://api.github.com", "https://github.example.org/api/v3", "https://api.octo.ghe.com"] {
            let below = address(base, "/orgs/octo/actions/runners?page=2").map(|uri| uri.to_string());
            assert_eq!(below, Some(page(base)));
            for other in ["https://api.github.com", "https://github.example.org/api/v3", "https://api.octo.ghe.com"] {
                let whole = address(base, &page(other)).map(|uri| uri.to_string());
                assert_eq!(whole, (base == other).then(|| page(base)), "{base} to {other}");
            }
        }
    }

    #[test]
    fn a_token_goes_to_github_only() {
        let base = "https://api.github.com".parse::<Uri>().expect("an address");
        for (target, expected) in [
            ("https://api.github.com/x?page=2", true),
            ("https://API.github.com:443/x", true),
            ("http://api.github.com/x", false),
            ("https://api.github.com:8443/x", false),
            ("https://api.github.com.example.org/x", false),
            ("https://api.github.com@example.org/x", false),
            ("https://user@api.github.com/x", false),
        ] {
            assert_eq!(same_origin(&target.parse().expect("an address"), &base), expected, "{target}");
        }
    }

    #[test]
    fn the_text_of_a_tag_steers_no_request() {
        for (text, expected) in [
            ("octo-org", "octo-org"),
            ("hello.world", "hello.world"),
            ("..", "%2E%2E"),
            ("a/b?c", "a%2Fb%3Fc"),
            ("é", "%C3%A9"),
        ] {
            assert_eq!(encoded(text), expected);
        }
        let scope = Scope::Repository { owner: "../orgs".into(), name: "x#".into() };
        assert_eq!(scope_path(&scope), "/repos/..%2Forgs/x%23");
    }
}
