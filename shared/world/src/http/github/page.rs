//! Pages: `per_page`, `page` and the `Link` header (docs: using pagination in the REST API).

use axum::http::{HeaderMap, Uri, header};
use std::collections::BTreeMap;

/// The query of a request.
pub(super) type Parameters = BTreeMap<String, String>;

const PER_PAGE_DEFAULT: usize = 30;
const PER_PAGE_MAX: usize = 100;

/// One page of a whole, and the links to its neighbours.
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    pub(super) total_count: usize,
    pub(super) link: Option<String>,
}

/// `per_page` as GitHub reads it: 30 when absent or unreadable, at most 100.
pub(super) fn per_page(parameters: &Parameters) -> usize {
    parameters
        .get("per_page")
        .and_then(|n| n.parse().ok())
        .filter(|n| *n > 0)
        .map_or(PER_PAGE_DEFAULT, |n: usize| n.min(PER_PAGE_MAX))
}

/// Cuts the page that was asked for.
pub(super) fn cut<T>(all: Vec<T>, uri: &Uri, headers: &HeaderMap, parameters: &Parameters) -> Page<T> {
    let size = per_page(parameters);
    let number = parameters.get("page").and_then(|n| n.parse().ok()).filter(|n| *n > 0).unwrap_or(1_usize);
    let total_count = all.len();
    let last = total_count.div_ceil(size).max(1);
    let items = all.into_iter().skip((number - 1) * size).take(size).collect();
    let mut relations = Vec::new();
    if number > 1 {
        relations.extend([("prev", (number - 1).min(last)), ("first", 1)]);
    }
    if number < last {
        relations.extend([("next", number + 1), ("last", last)]);
    }
    let links: Vec<String> = relations
        .into_iter()
        .map(|(relation, page)| link(uri, headers, parameters, "page", &page.to_string(), relation))
        .collect();
    Page { items, total_count, link: (!links.is_empty()).then(|| links.join(", ")) }
}

/// One link: this request with one parameter changed.
pub(super) fn link(
    uri: &Uri,
    headers: &HeaderMap,
    parameters: &Parameters,
    name: &str,
    value: &str,
    relation: &str,
) -> String {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost");
    let mut changed = parameters.clone();
    changed.insert(name.to_owned(), value.to_owned());
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(&changed).finish();
    format!("<http://{host}{}?{query}>; rel=\"{relation}\"", uri.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_link_to_their_neighbours_and_keep_the_other_parameters() {
        let (uri, headers) = (Uri::from_static("/orgs/o/actions/runners"), HeaderMap::new());
        let cut = |page: &str, per_page: &str, count: u32| {
            let parameters =
                Parameters::from([("page".to_owned(), page.to_owned()), ("per_page".to_owned(), per_page.to_owned())]);
            cut((0..count).collect(), &uri, &headers, &parameters)
        };
        let first = cut("1", "2", 5);
        assert_eq!((first.items, first.total_count), (vec![0, 1], 5));
        assert_eq!(
            first.link.unwrap(),
            "<http://localhost/orgs/o/actions/runners?page=2&per_page=2>; rel=\"next\", \
             <http://localhost/orgs/o/actions/runners?page=3&per_page=2>; rel=\"last\""
        );
        let last = cut("3", "2", 5);
        assert_eq!(last.items, vec![4]);
        assert!(!last.link.unwrap().contains("next"));
        assert!(cut("1", "100", 5).link.is_none());
        assert_eq!(cut("1", "500", 300).items.len(), 100);
        assert_eq!(cut("1", "no", 300).items.len(), 30);
    }
}
