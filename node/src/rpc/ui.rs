//! The web page at `/ui`: three files in the program itself, which ask this node over its WebSocket and nobody else.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
};
use hyper::header::{REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};

/// Where the page is.
pub(crate) const PATH: &str = "/ui";
/// Nothing from elsewhere, no script in the page, no frame around it.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// A new program has a new page.
const NOT_KEPT: HeaderValue = HeaderValue::from_static("no-cache");

const FILES: [(&str, &str, &str); 3] = [
    (PATH, "text/html; charset=utf-8", include_str!("ui/index.html")),
    ("/ui/app.js", "text/javascript; charset=utf-8", include_str!("ui/app.js")),
    ("/ui/style.css", "text/css; charset=utf-8", include_str!("ui/style.css")),
];

/// The file at `path`, where there is one.
pub(crate) fn file(path: &str) -> Option<Response<Full<Bytes>>> {
    let (_, kind, text) = FILES.iter().find(|(place, ..)| *place == path)?;
    let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    let one = |name: HeaderName, value| (name, value);
    reply.headers_mut().extend([
        one(CONTENT_TYPE, HeaderValue::from_static(kind)),
        one(CONTENT_SECURITY_POLICY, POLICY),
        one(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        one(REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        one(CACHE_CONTROL, NOT_KEPT),
    ]);
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its policy would keep the page from them.
    #[test]
    fn the_page_has_no_script_style_or_address_of_its_own() {
        let (_, _, page) = FILES[0];
        for (before, after) in [("<script ", "</script>"), ("<style", "</style>")] {
            for piece in page.split(before).skip(1) {
                let (tag, rest) = piece.split_once('>').expect("a tag ends");
                assert!(tag.contains("src=\"ui/"), "{tag}");
                assert!(rest.starts_with(after), "{rest}");
            }
        }
        for (_, _, text) in FILES {
            for foreign in ["http://", "https://", "style=\"", "innerHTML", "eval("] {
                let found = text.matches(foreign).count();
                // The scheme is looked at once, to choose that of the WebSocket.
                assert_eq!(found, 0, "{foreign}");
            }
        }
    }

    #[test]
    fn every_element_that_the_script_asks_for_is_in_the_page() {
        let (page, script) = (FILES[0].2, FILES[1].2);
        let ids: Vec<&str> = script
            .split("$(\"")
            .skip(1)
            .filter_map(|rest| rest.split_once('"').map(|(id, _)| id))
            .chain(
                script
                    .split("rows(\"")
                    .skip(1)
                    .filter_map(|rest| rest.split_once('"').map(|(id, _)| id)),
            )
            .collect();
        assert!(ids.len() > 10, "{ids:?}");
        for id in ids {
            assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
        }
    }
}
