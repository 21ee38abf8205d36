//! `cargo xtask kernel`: the guest's kernel that a stock distribution does not have, with
//! `tegra241-cmdqv` and the nesting of iommufd, and Linux's own `dma_map_benchmark`.
//!
//! Built from the distribution's source package as tinyconfig, [`FRAGMENT`] and olddefconfig. Everything
//! lies below `target/e2e`: `kernel-build` (source, tools, objects) may be thrown away, `cmdqv` is
//! what `vcmdq boot --cmdqv` and `--nesting` take.

mod apt;
mod build;
mod config;
mod tools;

use anyhow::Result;
use std::fs;

use crate::workspace::Workspace;

/// What the kernel must have beside the smallest configuration that there is.
const FRAGMENT: &str = include_str!("fragment.config");

/// Fetches, builds, and says where the results lie.
///
/// # Errors
///
/// Source or tools are not to be had, or something does not build.
pub(crate) fn run(workspace: &Workspace) -> Result<bool> {
    let place = workspace.target.join("e2e");
    let (scratch, results) = (place.join("kernel-build"), place.join("cmdqv"));
    fs::create_dir_all(&scratch)?;
    let tools = tools::obtain(&scratch)?;
    let source = build::source(&scratch)?;
    let build = build::Build {
        source: &source,
        objects: &scratch.join("objects"),
        tools: &tools,
    };
    build.configure()?;
    let image = build.image()?;
    let benchmark = build.benchmark()?;
    fs::create_dir_all(&results)?;
    fs::copy(benchmark, results.join(build::BENCHMARK))?;
    // Last: who finds it finds both.
    fs::copy(image, results.join("Image"))?;
    println!("kernel: {}", results.join("Image").display());
    Ok(true)
}
