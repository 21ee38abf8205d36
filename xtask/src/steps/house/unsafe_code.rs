//! Where `unsafe` may stand.

use super::Finding;
use super::code::{has_word, lines};
use crate::workspace::Source;

/// Files with `unsafe`, each with the one reason for it.
const ALLOWED: &[(&str, &str)] = &[
    (
        "crates/sync/src/claim.rs",
        "a cell whose claim word proves exclusiveness",
    ),
    (
        "crates/sync/src/wide.rs",
        "the host's 16-byte loads, which Rust has no atomics for",
    ),
    (
        "crates/vcmdq/src/vm_memory.rs",
        "words of guest memory as atomics",
    ),
    (
        "examples/kvm-roundtrip/src/kvm/memory.rs",
        "memory of a guest of KVM",
    ),
    (
        "examples/kvm-roundtrip/src/kvm/x86_64/code.rs",
        "the code of that guest, which is assembler",
    ),
    (
        "crates/vcmdq/src/dma/guest/slice.rs",
        "vm-memory exchanges the bitmap of a slice in no safe way",
    ),
    (
        "crates/iommufd/src/ioctl.rs",
        "a call of iommufd that no library has, and a union of another",
    ),
    (
        "crates/iommufd/src/vfio.rs",
        "calls of VFIO's character devices, which no library has without a container",
    ),
    (
        "e2e/guest/src/ioctl.rs",
        "calls of VFIO's character devices and of dirty tracking, which no library has",
    ),
    (
        "e2e/mock/src/call.rs",
        "calls of the mock IOMMU, which no library has",
    ),
    ("benches/tests/no_alloc.rs", "an allocator that counts"),
];

/// `unsafe` outside of [`ALLOWED`], in any Rust file of the workspace.
pub(super) fn outside_of_list(sources: &[Source]) -> Vec<Finding> {
    let allowed = |source: &Source| ALLOWED.iter().any(|(path, _)| *path == source.path);
    let rust = sources
        .iter()
        .filter(|source| source.path.ends_with(".rs") && !allowed(source));
    let find = |source: &Source| {
        let marked = lines(source).filter(|(_, line)| has_word(&without_strings(line), "unsafe"));
        marked
            .map(|(number, _)| Finding::new(source, number, "unsafe in a file not listed for it"))
            .collect::<Vec<_>>()
    };
    rust.flat_map(find).collect()
}

/// `line` with string literals emptied, as far as they end in it.
fn without_strings(line: &str) -> String {
    line.split('"').step_by(2).collect::<Vec<_>>().join("\"\"")
}

#[cfg(test)]
mod tests {
    use super::super::testing::lines as found;
    use super::*;

    #[test]
    fn only_listed_files_hold_it() {
        let text =
            "#![deny(unsafe_code)]\n// unsafe\nlet a = \"unsafe\";\nunsafe impl Send for A {}\n";
        assert_eq!(found(outside_of_list, "crates/x/src/a.rs", text), [4]);
        assert!(found(outside_of_list, ALLOWED[0].0, text).is_empty());
    }
}
