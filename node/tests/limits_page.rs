//! `docs/limits.md`, `docs/attacks.md` and `docs/handshake.md` name constants and tests: each must exist.

use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// All sources of the node and what it is made of, as one text.
fn text(folders: &[&str]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut files = Vec::new();
    folders.iter().for_each(|folder| sources(&root.join(folder), &mut files));
    let read = |file: &PathBuf| std::fs::read_to_string(file).expect("a source");
    files.iter().filter(|file| !file.ends_with("limits_page.rs")).map(read).collect()
}

fn page(name: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    std::fs::read_to_string(root.join("docs").join(name)).expect("the page")
}

/// What stands in backticks in the columns from `first` on.
fn names(page: &str, first: usize) -> Vec<String> {
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|---"));
    let columns = rows.flat_map(|row| row.split('|').skip(first).collect::<Vec<_>>());
    let names = columns.flat_map(|column| column.split('`').skip(1).step_by(2).collect::<Vec<_>>());
    names.map(str::to_owned).collect()
}

#[test]
fn the_page_of_limits_names_what_exists() {
    let light =
        ["light-sync/src", "light-sync/tests", "light-sync/core/src", "light-sync/core/tests"];
    let other = ["consensus/src", "node/src", "node/tests", "abci/src"];
    let text = text(&[other.as_slice(), light.as_slice()].concat());
    let page = page("limits.md");
    let mut checked = 0;
    // Bounds and tests; the keys of the configuration are held by another page.
    for name in names(&page, 2).iter().filter(|name| !name.contains('.')) {
        let is_constant = text.contains(&format!("const {name}: "));
        let is_field = text.contains(&format!("pub {name}: "));
        let is_test = text.contains(&format!("fn {name}("));
        assert!(is_constant || is_field || is_test, "docs/limits.md names {name}: not there");
        checked += 1;
    }
    assert!(checked > 120, "only {checked} names were found");
}

#[test]
fn the_page_of_attacks_names_tests_that_exist() {
    let text = text(&["node/src", "node/tests", "consensus/src"]);
    let page = page("attacks.md");
    let tests = names(&page, 4);
    for name in &tests {
        assert!(text.contains(&format!("fn {name}(")), "docs/attacks.md names {name}: not there");
    }
    assert!(tests.len() > 10, "only {} names were found", tests.len());
}

/// T-116: what arrives is as large as what was sent. RocksDB compresses on disk only.
#[test]
fn nothing_on_the_network_is_compressed() {
    let network = text(&["node/src/network", "node/src/wire", "node/src/sync", "node/src/rpc"]);
    for word in ["flate2", "GzDecoder", "zstd", "snap::", "lz4", "brotli", "inflate"] {
        assert!(!network.contains(word), "{word}");
    }
    // And no snapshot is taken from a peer.
    for call in ["offer_snapshot", "apply_snapshot_chunk", "load_snapshot_chunk"] {
        let node = text(&["node/src"]);
        assert!(!node.contains(&format!(".{call}(")), "{call}");
    }
}

/// Each cell names its tests, and each test of the table has its cell.
#[test]
fn the_handshake_table_and_its_tests_name_each_other() {
    let page = page("handshake.md");
    let tests = text(&["node/src/execution", "node/tests"]);
    let cells = page.split_once("## Cells").expect("the table").1;
    let columns = cells.lines().filter(|line| line.starts_with("| ") && line.contains("` |"));
    let last = |row: &str| row.split('|').rev().nth(1).unwrap_or_default().to_owned();
    let named: Vec<String> = columns
        .flat_map(|row| {
            let column = last(row);
            column.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    for name in &named {
        assert!(
            tests.contains(&format!("fn {name}(")),
            "docs/handshake.md names {name}: not there"
        );
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = std::fs::read_to_string(root.join("src/execution/tests/table.rs"));
    let table = table.expect("the tests of the table");
    let written = table.split("#[test]\nfn ").skip(1);
    let written: Vec<&str> = written.filter_map(|rest| rest.split('(').next()).collect();
    assert!(written.len() > 25, "only {} tests were found", written.len());
    for name in written {
        assert!(named.iter().any(|named| named == name), "{name} is not in docs/handshake.md");
    }
}
