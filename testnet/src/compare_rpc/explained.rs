//! What differs on purpose. `docs/rpc.md` says the same in its words.

use super::requests::Request;

/// Why the replies to `request` differ at a path, with what `CometBFT` and Tercet have there; none where there is no reason.
pub(super) fn reason(request: &Request, difference: (&str, &str, &str)) -> Option<&'static str> {
    let (path, right, ours) = difference;
    match path {
        ".result.tercet_version" => Some("to tell nodes apart"),
        ".cache-control" if right.contains("public") && ours == "\"\"" => {
            Some("replies that can still change are never marked cacheable")
        }
        ".status" if right == "500" && request.lacks_params() => Some("CometBFT panics there"),
        ".result.data" if request.route == "genesis_chunked" => Some("the genesis is another"),
        ".error.data" if request.names(".block") => Some("the hash is another, and in the text"),
        _ => None,
    }
}
