//! Fields of event records.

use smmu_core::spec::event::{Class, EventId, EventRecord};

/// A field of event records that QEMU is known to fill in wrongly.
#[derive(Debug)]
pub struct Field {
    /// A name for the report.
    pub name: &'static str,
    /// What QEMU writes, and what the architecture says where.
    pub why: &'static str,
    /// Corrects QEMU's record if it holds exactly what QEMU is known to write; the second is what is
    /// expected.
    pub correct: fn(&mut EventRecord, &EventRecord),
}

/// The fields.
pub const FIELDS: &[Field] = &[
    Field {
        name: "PnU",
        why: "every access has privilege, and is recorded as if it had none (IHI 0070, 7.3: PnU)",
        correct: |theirs, ours| {
            if !theirs.dw1().pnu() {
                theirs.0[1] = theirs.dw1().with_pnu(ours.dw1().pnu()).into_bits();
            }
        },
    },
    Field {
        name: "IPA [11:0]",
        why: "an IPA is recorded with the offset in its page (7.3.13 to 7.3.16: the field begins at bit 12)",
        correct: |theirs, _| {
            if theirs.dw1().s2() && theirs.id() != Some(EventId::WalkAbort) {
                theirs.0[3] &= !0xFFF;
            }
        },
    },
    Field {
        name: "RnW of fetches",
        why: "a stage 2 fault of a fetch is recorded as a read (7.3: RnW is that of the transaction, TTRnW that \
              of the fetch)",
        correct: |theirs, ours| {
            let word = theirs.dw1();
            if word.s2() && word.class() != Class::Input as u8 && word.rnw() {
                theirs.0[1] = word.with_rnw(ours.dw1().rnw()).into_bits();
            }
        },
    },
    Field {
        name: "TTRnW",
        why: "is never set (7.3.16)",
        correct: |theirs, ours| {
            if theirs.id() == Some(EventId::Permission) && !theirs.dw1().ttrnw() {
                theirs.0[1] = theirs.dw1().with_ttrnw(ours.dw1().ttrnw()).into_bits();
            }
        },
    },
    Field {
        name: "FetchAddr of F_CD_FETCH",
        why: "stands in InputAddr (7.3.10: word 3)",
        correct: |theirs, ours| {
            if theirs.id() == Some(EventId::CdFetch) && theirs.0[2] == ours.0[3] && theirs.0[3] == 0
            {
                theirs.0.swap(2, 3);
            }
        },
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn correct(name: &str, theirs: [u64; 4], ours: [u64; 4]) -> [u64; 4] {
        let mut record = EventRecord(theirs);
        let field = FIELDS
            .iter()
            .find(|field| field.name == name)
            .expect("a field");
        (field.correct)(&mut record, &EventRecord(ours));
        record.0
    }

    /// A stage 2 fault of class IN at 0x1234, with privilege.
    const OURS: [u64; 4] = [0x8_0000_0010, 0x282_0000_0000, 0x5234, 0x1000];

    #[test]
    fn only_what_qemu_is_known_to_write_is_corrected() {
        let bare = [OURS[0], 0x280_0000_0000, OURS[2], 0x1234];
        let privileged = correct("PnU", bare, OURS);
        assert_eq!(privileged, [bare[0], OURS[1], bare[2], bare[3]]);
        assert_eq!(correct("IPA [11:0]", privileged, OURS), OURS);
        // Another page stays another page; a stage 1 fault has no IPA to correct.
        let elsewhere = [OURS[0], OURS[1], OURS[2], 0x2234];
        assert_eq!(correct("IPA [11:0]", elsewhere, OURS)[3], 0x2000);
        let first = [OURS[0], 0x202_0000_0000, OURS[2], 0x234];
        assert_eq!(correct("IPA [11:0]", first, OURS), first);
        // Of an access, not of a fetch.
        let read = [OURS[0], OURS[1] | 1 << 35, OURS[2], OURS[3]];
        assert_eq!(correct("RnW of fetches", read, OURS), read);
        assert_eq!(correct("TTRnW", read, OURS), read);
    }

    #[test]
    fn the_address_of_a_cd_is_looked_for_in_one_place() {
        let ours = [0x8_0000_0009, 0, 0, 0x4_0000_0040];
        let name = "FetchAddr of F_CD_FETCH";
        assert_eq!(correct(name, [ours[0], 0, ours[3], 0], ours), ours);
        let wrong = [ours[0], 0, ours[3] + 0x40, 0];
        assert_eq!(correct(name, wrong, ours), wrong);
    }
}
