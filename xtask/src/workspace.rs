//! Where the workspace lies and what files it holds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand};

/// The workspace that this program was built from.
#[derive(Debug)]
pub(crate) struct Workspace {
    /// The directory of the root `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Cargo's target directory; steps that build differently use directories inside it.
    pub(crate) target: PathBuf,
    /// What `cargo metadata --no-deps` says.
    pub(crate) metadata: Metadata,
}

/// A text file of the workspace.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Path from the root, with `/` between the parts.
    pub(crate) path: String,
    /// The whole file.
    pub(crate) text: String,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    ///
    /// Cargo cannot be started or does not understand a manifest.
    pub(crate) fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml");
        let metadata = MetadataCommand::new()
            .manifest_path(manifest)
            .no_deps()
            .exec()?;
        Ok(Self {
            root: metadata.workspace_root.clone().into(),
            target: metadata.target_directory.clone().into(),
            metadata,
        })
    }

    /// Every text file, in the order of the paths. Build output, hidden directories other
    /// than `.ci` and `.cargo`, and files that are no UTF-8 are left out.
    ///
    /// # Errors
    ///
    /// A directory or file cannot be read.
    pub(crate) fn texts(&self) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        self.collect(&self.root, &mut sources)?;
        sources.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(sources)
    }

    /// The Rust files among [`Self::texts`].
    ///
    /// # Errors
    ///
    /// As for [`Self::texts`].
    pub(crate) fn rust_files(&self) -> Result<Vec<Source>> {
        let mut sources = self.texts()?;
        sources.retain(|source| source.path.ends_with(".rs"));
        Ok(sources)
    }

    fn collect(&self, directory: &Path, sources: &mut Vec<Source>) -> Result<()> {
        let entries = fs::read_dir(directory)
            .with_context(|| format!("cannot list {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            let kind = entry.file_type()?;
            if kind.is_dir() && is_ours(&entry.file_name().to_string_lossy()) {
                self.collect(&path, sources)?;
            // In a linked worktree `.git` is a file that holds a path.
            } else if kind.is_file() && entry.file_name() != ".git" {
                let bytes =
                    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                if let Ok(text) = String::from_utf8(bytes) {
                    let path = path
                        .strip_prefix(&self.root)?
                        .to_string_lossy()
                        .into_owned();
                    sources.push(Source { path, text });
                }
            }
        }
        Ok(())
    }
}

fn is_ours(directory: &str) -> bool {
    directory != "target" && (!directory.starts_with('.') || [".ci", ".cargo"].contains(&directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_the_one_of_this_file() {
        let workspace = Workspace::find().expect("cargo metadata");
        let files = workspace.rust_files().expect("readable files");
        let this = files
            .iter()
            .find(|file| file.path == "xtask/src/workspace.rs");
        assert!(
            this.expect("this file")
                .text
                .contains("the_workspace_is_the_one_of_this_file")
        );
        assert!(files.iter().all(|file| !file.path.contains("target/")));
    }

    #[test]
    fn build_output_and_hidden_directories_are_not_ours() {
        assert!(is_ours("crates") && is_ours(".ci"));
        assert!(!is_ours("target") && !is_ours(".git"));
    }
}
