//! A flaw as a file: header lines, then a unified diff.

use anyhow::{Context, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// One flaw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Patch {
    /// The path below the folder of the patches, without its ending.
    pub(crate) name: String,
    /// The file.
    pub(crate) path: PathBuf,
    /// Which rule it breaks: a section of docs/protocol.md, or who shipped it.
    pub(crate) rule: String,
    /// What is broken, in one sentence.
    pub(crate) flaw: String,
    /// Filters of the directed tests, where it changes more than the consensus crate.
    pub(crate) tests: Option<String>,
    /// Why some check cannot see it.
    pub(crate) note: Option<String>,
    /// The files that it changes.
    pub(crate) files: Vec<String>,
}

/// Every `*.patch` below `folder`, by name.
///
/// # Errors
/// Where a file cannot be read or lacks a header line.
pub(crate) fn load(folder: &Path) -> anyhow::Result<Vec<Patch>> {
    let mut patches = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        let entries = std::fs::read_dir(&next);
        for entry in entries.with_context(|| format!("cannot read {}", next.display()))? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "patch") {
                patches.push(read(folder, path)?);
            }
        }
    }
    patches.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(patches)
}

fn read(folder: &Path, path: PathBuf) -> anyhow::Result<Patch> {
    let text = std::fs::read_to_string(&path)?;
    let name = path.strip_prefix(folder)?.with_extension("").display().to_string();
    parse(name, path, &text)
}

/// The patch in `text`.
///
/// # Errors
/// Where a header line is missing, or nothing is changed.
pub(crate) fn parse(name: String, path: PathBuf, text: &str) -> anyhow::Result<Patch> {
    let header = |key: &str| {
        let lines = text.lines().take_while(|line| !line.starts_with("diff --git "));
        let mut values = lines.filter_map(|line| line.strip_prefix(key)).map(str::trim);
        values.next().filter(|value| !value.is_empty()).map(str::to_owned)
    };
    let required = |key: &str| header(key).with_context(|| format!("{name}: no line \"{key} …\""));
    let (rule, flaw) = (required("Rule:")?, required("Flaw:")?);
    let files: Vec<String> =
        text.lines().filter_map(|line| line.strip_prefix("+++ b/")).map(str::to_owned).collect();
    if files.is_empty() {
        bail!("{name}: it changes nothing");
    }
    let (tests, note) = (header("Tests:"), header("Note:"));
    let patch = Patch { name, path, rule, flaw, tests, note, files };
    if patch.concerns_consensus_alone() == patch.tests.is_some() {
        let name = &patch.name;
        bail!("{name}: a line \"Tests: FILTER …\" belongs where more than consensus/ is changed");
    }
    Ok(patch)
}

impl Patch {
    /// Whether it changes nothing but the consensus crate, which compiles in seconds.
    pub(crate) fn concerns_consensus_alone(&self) -> bool {
        self.files.iter().all(|file| file.starts_with("consensus/"))
    }

    /// Fails where the patch does not apply to the source at `root`.
    ///
    /// # Errors
    /// With what git says.
    pub(crate) fn check(&self, root: &Path) -> anyhow::Result<()> {
        self.git_apply(root, "--check")
    }

    /// Runs `git apply` at `root`, which need not be a repository.
    ///
    /// # Errors
    /// Where it does not apply.
    pub(crate) fn git_apply(&self, root: &Path, how: &str) -> anyhow::Result<()> {
        let root = root.canonicalize()?;
        let mut git = Command::new("git");
        git.args(["apply", how]).arg(self.path.canonicalize()?).current_dir(&root);
        // A repository that the source merely lies in would take the paths for its own.
        git.env("GIT_CEILING_DIRECTORIES", root.parent().unwrap_or(&root));
        let output = git.output().context("git is needed to apply patches")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{} does not apply: {}", self.path.display(), said.trim());
        }
        Ok(())
    }
}
