#!/bin/bash
# Weakens one rule after another in a copy of the consensus crate and searches all states of a small network until the flaw is found.
# Fails where an edit no longer applies or a flaw is not found. Usage: scripts/exhaust-weakened.sh [NAME...]
set -eu -o pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/weakened
# Always the same place, so that only the edited crate is compiled again.
copy=$CARGO_TARGET_DIR/source
trap 'rm -rf "$copy"' EXIT
failed=0

# weaken NAME BOUNDS FILE FROM TO [FILE FROM TO]...: text for text, each must be there once or more.
weaken() {
    local name=$1 bounds=$2
    shift 2
    if [ -n "$wanted" ] && [[ " $wanted " != *" $name "* ]]; then return; fi
    rm -rf "$copy"
    mkdir -p "$copy"
    cp -r Cargo.toml Cargo.lock abci benches config consensus node testnet "$copy"
    while [ $# -gt 0 ]; do
        FROM=$2 TO=$3 perl -0pi -e 'BEGIN { $n = 0 } $n += s/\Q$ENV{FROM}\E/$ENV{TO}/g; END { exit($n ? 0 : 3) }' \
            "$copy/consensus/src/$1" || { echo "$name: the edit of $1 no longer applies"; failed=1; return; }
        shift 3
    done
    (cd "$copy" && cargo build -q --release --locked -p tercet-consensus --features testing --example exhaust 2>/dev/null) \
        || { echo "$name: does not compile"; failed=1; return; }
    local out status=0
    # shellcheck disable=SC2086
    out=$("$CARGO_TARGET_DIR/release/examples/exhaust" $bounds 2>/dev/null) || status=$?
    if [ $status -eq 1 ]; then
        echo "$name ($bounds): $(grep BROKEN <<<"$out" | cut -c8- | cut -c1-110); $(grep -o '[0-9]* states (' <<<"$out" | tr -d '(' )"
    else
        echo "$name ($bounds): NOT FOUND"
        failed=1
    fi
}

wanted=$*
weaken commit-below-promise "views=2" \
    replica/rules.rs 'if !self.at.may_vote(view) || self.at.commit_asked' 'if self.at.commit_asked' \
    replica/signing.rs '&& self.at.may_vote(view)' '&& true'
weaken promise-ignored "views=2" \
    replica/height.rs 'view == self.view && self.promise.is_none_or(|promise| promise.view <= view)' 'view == self.view'
weaken lock-dropped "views=2 prior=0,1 blocks=0,1" \
    replica/height.rs 'None => self.is_unlocked_for(message) && last == view && own_proposer' 'None => last == view && own_proposer'
weaken lowest-certificate "views=3 prior=0 blocks=0,0" \
    justification.rs 'claims().map(|claim| claim.view).max()' 'claims().map(|claim| claim.view).min()'
weaken free-though-prepared "views=2" \
    justification.rs 'return Err(Reject::Justification("free, though someone has prepared"));' 'return Ok(());'
weaken claim-dropped "views=2" \
    replica/height.rs 'self.prepared.as_ref().map(|p| PreparedClaim { view: p.view, block_id: p.block_id })' 'None' \
    replica/signing.rs 'let certificate = self.at.prepared.as_ref().map(|prepared| prepared.certificate.clone());' 'let certificate = None;'
weaken quorum-one-lower "views=2" \
    power.rs 'total / 3 * 2 + (total % 3) * 2 / 3 + 1' 'total / 3 * 2 + (total % 3) * 2 / 3'
weaken view-falls-at-restart "views=2 crashes=1 prior=0,1 blocks=0,1" \
    replica/restore.rs 'self.at.view = self.at.view.max(view);' 'let _ = view;'
weaken new-view-below-promise "views=3 prior=0 blocks=0,0" \
    replica/rules.rs 'm.justification.is_some() && m.view() > self.at.view && m.view() >= top' 'm.justification.is_some() && m.view() > self.at.view' \
    replica/height.rs 'view == self.view && self.promise.is_none_or(|promise| promise.view <= view)' 'view == self.view'
weaken decides-by-prepares "views=2" \
    replica/inputs.rs 'if phase == Phase::Commit
            && self.at.commit_quorum' 'if self.at.commit_quorum' \
    replica/inputs.rs 'self.at.commits.quorum(view, &validators)' 'self.at.votes(phase).quorum(view, &validators)'
weaken timer-at-exactly-the-promise "views=2 beyond=1 live=50" \
    replica/view_changes.rs '.filter(|(_, m)| m.signed.message.view >= view)' '.filter(|(_, m)| m.signed.message.view == view)'
weaken new-view-not-resent "views=2 live=50" \
    replica/status.rs 'if status.view < self.at.view
            && let Some(message) = &self.at.new_view' 'if false
            && let Some(message) = &self.at.new_view' \
    replica/status.rs 'if status.view <= self.at.view {
            self.answer_pre_prepares' 'if status.view == self.at.view {
            self.answer_pre_prepares'
exit $failed
