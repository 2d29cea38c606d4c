//! What differs on purpose. `docs/rpc.md` says the same in its words.

use super::requests::Request;

/// Why the replies to `request` differ at a path, with what `CometBFT` and Tercet have there; none where there is no reason.
pub(super) fn reason(request: &Request, difference: (&str, &str, &str)) -> Option<&'static str> {
    let (path, right, _) = difference;
    match path {
        ".result.sync_info" => Some("to tell nodes apart"),
        ".status" if right == "500" && request.lacks_params() => Some("CometBFT panics there"),
        _ => None,
    }
}
