//! Kernels that were built for the purpose, and Linux's `dma_map_benchmark`: by `cargo xtask kernel`
//! below the build directory, or by somebody else in a folder beside the checkout.

use std::path::{Path, PathBuf};

/// Where `cargo xtask kernel` puts its results, in the directory of fetched parts.
const BUILT: &str = "cmdqv";

/// The same with `--mock`, and for `cargo xtask mock`.
const MOCK: &str = "mock";

/// A folder of prebuilt parts, from where the tool is started.
const BESIDE: &str = "../shared/e2e";

/// The kernel.
pub(super) fn kernel(directory: &Path) -> Option<PathBuf> {
    one(&directory.join(BUILT), "Image", "guest-Image.gz")
}

/// The program, for arm64 and static.
pub(super) fn benchmark(directory: &Path) -> Option<PathBuf> {
    one(
        &directory.join(BUILT),
        "dma_map_benchmark",
        "dma_map_benchmark-arm64",
    )
}

/// What `cargo xtask guest` builds.
pub(super) fn nesting(directory: &Path) -> Option<PathBuf> {
    let program = directory.join("guest/nesting");
    program.exists().then_some(program)
}

/// The kernel with the mock IOMMU, which `cargo xtask kernel --mock` builds.
pub(super) fn mock_kernel(directory: &Path) -> Option<PathBuf> {
    one(&directory.join(MOCK), "bzImage", "mock-host-bzImage")
}

/// What `cargo xtask mock` builds.
pub(super) fn mock(directory: &Path) -> Option<PathBuf> {
    let program = directory.join(MOCK).join("mock");
    program.exists().then_some(program)
}

fn one(directory: &Path, built: &str, beside: &str) -> Option<PathBuf> {
    let places = [directory.join(built), Path::new(BESIDE).join(beside)];
    places.into_iter().find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_was_built_comes_first() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join(BUILT);
        fs::create_dir(&place).expect("a directory");
        for name in ["Image", "dma_map_benchmark"] {
            fs::write(place.join(name), "").expect("a file");
        }
        assert_eq!(kernel(directory.path()), Some(place.join("Image")));
        let program = place.join("dma_map_benchmark");
        assert_eq!(benchmark(directory.path()), Some(program));
    }

    #[test]
    fn the_mock_kernel_is_not_the_guests() {
        let directory = tempfile::tempdir().expect("a directory");
        let place = directory.path().join(MOCK);
        fs::create_dir(&place).expect("a directory");
        fs::write(place.join("bzImage"), "").expect("a file");
        assert_eq!(mock_kernel(directory.path()), Some(place.join("bzImage")));
        assert_eq!(mock(directory.path()), None);
    }
}
