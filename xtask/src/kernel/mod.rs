//! `cargo xtask kernel`: kernels that a stock distribution does not have.
//!
//! | | what | who takes it |
//! |---|---|---|
//! | | the guest's, with `tegra241-cmdqv` and the nesting of iommufd, and Linux's own `dma_map_benchmark` | `vcmdq boot --cmdqv`, `--nesting` |
//! | `--mock` | a host's, for x86-64, whose iommufd has a mock IOMMU | `vcmdq mock` |
//!
//! Built from the distribution's source package as tinyconfig, a fragment ([`machine`]) and olddefconfig.
//! Everything lies below `target/e2e`: `kernel-build` (source, tools, objects) may be thrown away, `cmdqv` and
//! `mock` hold what is taken. A run that was stopped at any point is gone on with by the next one: what was
//! fetched is used if it is whole, and make builds what is not up to date.

mod apt;
mod build;
mod config;
mod machine;
mod tools;

use anyhow::Result;
use std::fs;

use crate::workspace::Workspace;
use machine::{GUEST, MOCK};

/// Fetches, builds, and says where the results lie.
///
/// # Errors
///
/// Source or tools are not to be had, or something does not build.
pub(crate) fn run(workspace: &Workspace, mock: bool) -> Result<bool> {
    let machine = if mock { &MOCK } else { &GUEST };
    let place = workspace.target.join("e2e");
    let (scratch, results) = (place.join("kernel-build"), place.join(machine.place));
    fs::create_dir_all(&scratch)?;
    let tools = tools::obtain(&scratch, machine)?;
    let source = build::source(&scratch)?;
    let objects = scratch.join(machine.objects);
    println!("building in {}, which takes minutes", objects.display());
    let build = build::Build {
        source: &source,
        objects: &objects,
        tools: &tools,
        machine,
    };
    build.configure()?;
    let image = build.image()?;
    fs::create_dir_all(&results)?;
    if !mock {
        fs::copy(build.benchmark()?, results.join(build::BENCHMARK))?;
    }
    // Last: who finds it finds both.
    let result = results.join(machine.image.0);
    fs::copy(image, &result)?;
    println!("kernel: {}", result.display());
    println!("next: {}", machine.next);
    Ok(true)
}
