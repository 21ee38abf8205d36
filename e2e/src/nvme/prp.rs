//! Where the data of a command lies: physical region pages (Base Specification, 4.1.1).

use super::command::Status;
use super::dma::Dma;
use vcmdq::dma::Segment;

/// The page size, CC.MPS=0.
const PAGE: u64 = 4096;

/// The segments of `bytes` bytes. Reads at most as many list entries as that has pages.
pub(super) fn segments(
    dma: &mut dyn Dma,
    (first, second): (u64, u64),
    bytes: usize,
) -> Result<Vec<Segment>, Status> {
    let mut left = bytes;
    let mut all = Vec::new();
    let mut push = |iova: u64, left: &mut usize| {
        let len = (*left).min((PAGE - iova % PAGE) as usize);
        all.push(Segment { iova, len });
        *left -= len;
    };
    push(first, &mut left);
    if left == 0 {
        return Ok(all);
    }
    if left <= PAGE as usize {
        page(second)?;
        push(second, &mut left);
        return Ok(all);
    }
    let mut list = second;
    if list % 8 != 0 {
        return Err(Status::InvalidPrpOffset);
    }
    while left > 0 {
        let here = ((PAGE - list % PAGE) / 8) as usize;
        let needed = left.div_ceil(PAGE as usize);
        let mut entries = vec![0; 8 * here.min(needed)];
        let read = dma.read(list, &mut entries);
        read.map_err(|_| Status::DataTransferError)?;
        let mut entries = entries
            .chunks_exact(8)
            .map(|entry| u64::from_le_bytes(entry.try_into().unwrap_or_default()));
        // The last entry of a page leads to more of the list, if more is needed than it holds.
        let data = if needed > here { here - 1 } else { needed };
        for entry in entries.by_ref().take(data) {
            page(entry)?;
            push(entry, &mut left);
        }
        if let Some(next) = entries.next() {
            page(next)?;
            list = next;
        }
    }
    Ok(all)
}

fn page(entry: u64) -> Result<(), Status> {
    match entry % PAGE {
        0 => Ok(()),
        _ => Err(Status::InvalidPrpOffset),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Memory;
    use super::*;

    fn lens(segments: &[Segment]) -> Vec<(u64, usize)> {
        segments.iter().map(|s| (s.iova, s.len)).collect()
    }

    #[test]
    fn two_pages_need_no_list() {
        let mut memory = Memory::new(0);
        let found = segments(&mut memory, (0x1200, 0x5000), 4096).expect("valid");
        assert_eq!(lens(&found), [(0x1200, 0xE00), (0x5000, 0x200)]);
        let found = segments(&mut memory, (0x1000, 0), 512).expect("valid");
        assert_eq!(lens(&found), [(0x1000, 512)]);
    }

    #[test]
    fn a_list_goes_on_in_the_next_page() {
        let mut memory = Memory::new(0x4000);
        // Two entries at the end of a page: one of data, one that leads on.
        memory.put(0x1FF0, &0x9000u64.to_le_bytes());
        memory.put(0x1FF8, &0x2000u64.to_le_bytes());
        memory.put(0x2000, &0xA000u64.to_le_bytes());
        memory.put(0x2008, &0xB000u64.to_le_bytes());
        let found = segments(&mut memory, (0x8000, 0x1FF0), 4 * 4096).expect("valid");
        let pages: Vec<_> = found.iter().map(|s| s.iova).collect();
        assert_eq!(pages, [0x8000, 0x9000, 0xA000, 0xB000]);
        assert!(found.iter().all(|s| s.len == 4096));
    }

    #[test]
    fn a_list_that_ends_with_its_page_has_no_link() {
        let mut memory = Memory::new(0x4000);
        memory.put(0x1FF0, &0x9000u64.to_le_bytes());
        memory.put(0x1FF8, &0xA000u64.to_le_bytes());
        let found = segments(&mut memory, (0x8000, 0x1FF0), 3 * 4096).expect("valid");
        assert_eq!(found.len(), 3);
        assert_eq!(found[2].iova, 0xA000);
    }

    #[test]
    fn offsets_where_none_may_be_and_unreadable_lists_are_errors() {
        let mut memory = Memory::new(0x4000);
        let odd = segments(&mut memory, (0x1000, 0x5004), 8192);
        assert_eq!(odd.err(), Some(Status::InvalidPrpOffset));
        memory.put(0x2000, &0x9008u64.to_le_bytes());
        let odd = segments(&mut memory, (0x1000, 0x2000), 3 * 4096);
        assert_eq!(odd.err(), Some(Status::InvalidPrpOffset));
        let gone = segments(&mut memory, (0x1000, 0x10_0000), 3 * 4096);
        assert_eq!(gone.err(), Some(Status::DataTransferError));
    }

    #[test]
    fn a_list_may_begin_with_its_link() {
        let mut memory = Memory::new(0x4000);
        memory.put(0x2FF8, &0x2000u64.to_le_bytes());
        memory.put(0x2000, &0x9000u64.to_le_bytes());
        memory.put(0x2008, &0xA000u64.to_le_bytes());
        let found = segments(&mut memory, (0x8000, 0x2FF8), 3 * 4096).expect("valid");
        let pages: Vec<_> = found.iter().map(|s| s.iova).collect();
        assert_eq!(pages, [0x8000, 0x9000, 0xA000]);
    }
}
