//! What the controller says of itself (Base Specification, 5.17).

use super::io::{BLOCK, MDTS};

/// Bytes of an answer.
pub(super) const BYTES: usize = 4096;
pub(super) type Answer = [u8; BYTES];

/// Asynchronous event requests that may be open, less one.
pub(super) const AERL: u8 = 3;

fn put(answer: &mut Answer, at: usize, bytes: &[u8]) {
    answer[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Text padded with blanks.
fn text(answer: &mut Answer, at: usize, len: usize, text: &str) {
    answer[at..at + len].fill(b' ');
    put(answer, at, &text.as_bytes()[..text.len().min(len)]);
}

/// CNS 01h: the controller.
pub(super) fn controller() -> Answer {
    let mut answer = [0; BYTES];
    text(&mut answer, 4, 20, "0001");
    text(&mut answer, 24, 40, "vcmdq test disk");
    text(&mut answer, 64, 8, "1");
    answer[77] = MDTS;
    put(&mut answer, 80, &0x0001_0400u32.to_le_bytes());
    // CNTRLTYPE: an I/O controller.
    answer[111] = 1;
    // ACL, AERL, ELPE.
    answer[258] = 3;
    answer[259] = AERL;
    // FRMW: one slot, read-only.
    answer[260] = 0b11;
    // SQES, CQES: 64 and 16 bytes.
    answer[512] = 0x66;
    answer[513] = 0x44;
    // NN: one namespace.
    put(&mut answer, 516, &1u32.to_le_bytes());
    // VWC: a cache, so that flushes come.
    answer[525] = 1;
    text(&mut answer, 768, 40, "nqn.2024-01.io.vcmdq:test-disk");
    let end = answer[768..1024].iter().position(|&byte| byte == b' ');
    if let Some(end) = end {
        answer[768 + end..1024].fill(0);
    }
    answer
}

/// CNS 00h: the namespace.
pub(super) fn namespace(blocks: u64) -> Answer {
    let mut answer = [0; BYTES];
    // NSZE, NCAP, NUSE.
    for at in [0, 8, 16] {
        put(&mut answer, at, &blocks.to_le_bytes());
    }
    // LBAF0: LBADS.
    answer[130] = BLOCK.trailing_zeros() as u8;
    answer
}

/// CNS 02h: the namespaces above `after`.
pub(super) fn namespaces(after: u32) -> Answer {
    let mut answer = [0; BYTES];
    if after == 0 {
        put(&mut answer, 0, &1u32.to_le_bytes());
    }
    answer
}

/// CNS 03h: how the namespace is known: by a UUID.
pub(super) fn descriptors() -> Answer {
    let mut answer = [0; BYTES];
    answer[0] = 3;
    answer[1] = 16;
    put(&mut answer, 4, b"vcmdq test disk1");
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_padded_and_the_name_ends_with_a_zero() {
        let answer = controller();
        assert_eq!(&answer[24..42], b"vcmdq test disk   ");
        assert_eq!(&answer[768..774], b"nqn.20");
        assert!(answer[768..1024].contains(&0));
        assert!(!answer[768..1024].contains(&b' '));
    }

    #[test]
    fn the_block_size_is_a_power_of_two() {
        assert_eq!(1 << namespace(8)[130], BLOCK);
        assert_eq!(namespaces(0)[0], 1);
        assert_eq!(namespaces(1)[0], 0);
    }
}
