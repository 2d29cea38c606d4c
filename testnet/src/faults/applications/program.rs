//! The faulty application: a Go program on CometBFT's own server, whose source is part of this one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

/// Its source, so that it can be built wherever this program is.
const SOURCE: [(&str, &str); 6] = [
    ("go.mod", include_str!("../../../go/faulty/go.mod")),
    ("go.sum", include_str!("../../../go/faulty/go.sum")),
    ("main.go", include_str!("../../../go/faulty/main.go")),
    ("fault.go", include_str!("../../../go/faulty/fault.go")),
    ("app.go", include_str!("../../../go/faulty/app.go")),
    ("wire.go", include_str!("../../../go/faulty/wire.go")),
];

/// Builds the program in `dir`: where it is.
pub(super) fn build(dir: &Path) -> anyhow::Result<PathBuf> {
    let source = dir.join("faulty");
    std::fs::create_dir_all(&source)
        .with_context(|| format!("cannot make {}", source.display()))?;
    for (name, text) in SOURCE {
        std::fs::write(source.join(name), text)
            .with_context(|| format!("cannot write {name} in {}", source.display()))?;
    }
    let built = Command::new("go")
        .args(["build", "-o", "app", "."])
        .current_dir(&source)
        .stdin(Stdio::null())
        .output();
    let Ok(output) = built else {
        bail!(
            "there is no Go here, and the faulty application is a Go program: install Go 1.22 or later (https://go.dev/dl), or name \
             the built testnet/go/faulty with --app"
        );
    };
    ensure!(
        output.status.success(),
        "`go build` of the faulty application failed (it fetches CometBFT 0.38 at first): {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(source.join("app"))
}

/// Every method with its faults, as the program lists them.
pub(super) fn list(program: &Path) -> anyhow::Result<Vec<(String, Vec<String>)>> {
    let output = Command::new(program).arg("--list").stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot run {}", program.display()))?;
    ensure!(output.status.success(), "{} --list failed", program.display());
    Ok(parse(&String::from_utf8_lossy(&output.stdout)))
}

fn parse(text: &str) -> Vec<(String, Vec<String>)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some((words.next()?, words.collect()))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_a_method_a_line_with_its_faults() {
        let list = parse("Info late wrong-hash\nCommit late\n\n");
        assert_eq!(list.len(), 2);
        assert_eq!(list[0], ("Info".to_owned(), vec!["late".to_owned(), "wrong-hash".to_owned()]));
    }

    #[test]
    fn the_source_names_every_method_that_is_asked() {
        let source: String = SOURCE.iter().map(|(_, text)| *text).collect();
        for (method, _) in super::super::cell::METHODS {
            assert!(source.contains(&format!("\"{method}\"")), "{method}");
        }
    }
}
