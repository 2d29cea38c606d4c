//! `docs/rules.md` names functions and tests: each must exist.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The names of all functions in these files.
fn functions(files: &[PathBuf]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        for part in text.split("fn ").skip(1) {
            let end = part.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(part.len());
            names.insert(part[..end].to_owned());
        }
    }
    names
}

#[test]
fn the_page_of_rules_names_what_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = std::fs::read_to_string(root.join("docs/rules.md")).unwrap();
    let mut files = Vec::new();
    sources(&root.join("consensus/src"), &mut files);
    sources(&root.join("node/src"), &mut files);
    let functions = functions(&files);
    let mut checked = 0;
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("|---")) {
        // The first column names the rule, the others functions, tests and files.
        let columns: Vec<&str> = row.split('|').skip(2).collect();
        for name in columns.iter().flat_map(|column| column.split('`').skip(1).step_by(2)) {
            let exists = match name.contains('/') || name.ends_with(".rs") {
                true => {
                    files.iter().any(|file| file.ends_with(name))
                        || root.join(name).exists()
                        || folder(root, name)
                }
                false => functions.contains(name),
            };
            assert!(exists, "docs/rules.md names {name}, which does not exist");
            checked += 1;
        }
    }
    assert!(checked > 150, "only {checked} names were found");
}

fn folder(root: &Path, name: &str) -> bool {
    root.join("consensus/src").join(name).exists()
}

/// Every directed test of the replica and of the checklist stands on the page, so that no rule's test is forgotten there.
#[test]
fn the_page_of_rules_is_complete() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.parent().unwrap().join("docs/rules.md")).unwrap();
    let mut files = Vec::new();
    sources(&root.join("src/replica/tests"), &mut files);
    files.push(root.join("src/testing/network_tests.rs"));
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for part in text.split("#[test]\n").skip(1) {
            let name =
                part.trim_start().trim_start_matches("fn ").split('(').next().unwrap_or_default();
            assert!(page.contains(&format!("`{name}`")), "{name} is not on docs/rules.md");
        }
    }
}
