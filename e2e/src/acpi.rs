//! ACPI's table of how devices reach the SMMU (IORT, Arm DEN 0049), changed to say one thing more.
//!
//! Linux lets user space put a stage 1 of its own over a stage 2 only where a device cannot get around the
//! CPU's caches: with FEAT_S2FWB in the SMMU, which QEMU's has not, or if the table says of the PCI root
//! that its writes are as cacheable as the CPU's tables would have them (CANWBS), which QEMU's does not
//! say. Under emulation it is true. The kernel takes a newer table from its initramfs.

use anyhow::{Context, Result, ensure};

/// Bytes of a table's header; where it says its length, and its revision by whoever made it.
const HEADER: usize = 36;
const LENGTH: usize = 4;
const CHECKSUM: usize = 9;
const REVISION: usize = 24;
/// In the table: how many nodes, and where the first is.
const NODES: usize = 36;
const FIRST: usize = 40;
/// In a node: its kind, its length, its body.
const NODE_LENGTH: usize = 1;
const BODY: usize = 16;
/// The kind of a node that is a PCI root; the flags of its memory accesses, and the one that is set.
const ROOT: u8 = 2;
const FLAGS: usize = BODY + 7;
const CANWBS: u8 = 1 << 2;

/// The first whole IORT in a piece of memory that begins at a multiple of eight.
#[must_use]
pub fn find(memory: &[u8]) -> Option<&[u8]> {
    let places = (0..memory.len()).step_by(8);
    let mut tables = places
        .filter(|&at| memory[at..].starts_with(b"IORT"))
        .filter_map(|at| {
            let length = word(memory, at + LENGTH)?;
            memory.get(at..at.checked_add(length)?)
        });
    tables.find(|table| table.len() >= HEADER + 8 && sum(table) == 0)
}

/// The same table with CANWBS set for every PCI root, and a newer revision.
///
/// # Errors
///
/// It is no such table, or has no PCI root.
pub fn with_canwbs(table: &[u8]) -> Result<Vec<u8>> {
    let mut table = table.to_vec();
    let broken = "the IORT ends early";
    let nodes = word(&table, NODES).context(broken)?;
    let mut at = word(&table, FIRST).context(broken)?;
    let mut roots = 0;
    for _ in 0..nodes {
        let length = table.get(at + NODE_LENGTH..at + NODE_LENGTH + 2);
        let length = u16::from_le_bytes(length.context(broken)?.try_into()?);
        ensure!(length > 0, "the IORT has an empty node");
        if table[at] == ROOT {
            *table.get_mut(at + FLAGS).context(broken)? |= CANWBS;
            roots += 1;
        }
        at += usize::from(length);
    }
    ensure!(roots > 0, "the IORT has no PCI root");
    let newer = word(&table, REVISION).context(broken)? as u32 + 1;
    table[REVISION..REVISION + 4].copy_from_slice(&newer.to_le_bytes());
    table[CHECKSUM] = table[CHECKSUM].wrapping_sub(sum(&table));
    Ok(table)
}

fn word(table: &[u8], at: usize) -> Option<usize> {
    let bytes = table.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?) as usize)
}

fn sum(table: &[u8]) -> u8 {
    table
        .iter()
        .fold(0, |sum: u8, byte| sum.wrapping_add(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An interrupt controller's node and a PCI root's.
    fn table() -> Vec<u8> {
        let mut table = vec![0; 48];
        table[..4].copy_from_slice(b"IORT");
        table[NODES] = 2;
        table[FIRST] = 48;
        table.extend([0, 24, 0]);
        table.resize(48 + 24, 0);
        table.extend([ROOT, 36, 0]);
        table.resize(48 + 24 + 36, 0);
        table[48 + 24 + FLAGS] = 0b11;
        table[LENGTH] = table.len() as u8;
        table[CHECKSUM] = 0_u8.wrapping_sub(sum(&table));
        table
    }

    #[test]
    fn only_the_flag_the_revision_and_the_checksum_change() {
        let before = table();
        let after = with_canwbs(&before).expect("a whole table");
        let places = before.iter().zip(&after).enumerate();
        let changed: Vec<_> = places
            .filter(|(_, (a, b))| a != b)
            .map(|(at, _)| at)
            .collect();
        assert_eq!(changed, [CHECKSUM, REVISION, 48 + 24 + FLAGS]);
        assert_eq!((after[48 + 24 + FLAGS], sum(&after)), (0b111, 0));
    }

    #[test]
    fn a_whole_table_is_found_and_half_a_one_is_not() {
        let table = table();
        let mut memory = vec![0; 64];
        // The firmware has not filled in the checksum yet.
        let mut early = table.clone();
        early[CHECKSUM] ^= 1;
        memory.extend(&early);
        memory.resize(memory.len().next_multiple_of(8), 0);
        memory.extend(&table);
        assert_eq!(find(&memory), Some(&*table));
        memory.truncate(memory.len() - 1);
        assert_eq!(find(&memory), None);
    }

    #[test]
    fn what_is_cut_off_is_refused() {
        let table = table();
        for length in 0..table.len() {
            let _must_not_panic = with_canwbs(&table[..length]);
            assert!(find(&table[..length]).is_none());
        }
        let mut rootless = table;
        rootless[48 + 24] = 0;
        assert!(with_canwbs(&rootless).is_err());
    }
}
