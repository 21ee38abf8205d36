//! Bit positions of table entries, records and registers, against words written down by
//! hand: a single set bit in each word must be the field that the architecture puts there.

use smmu_core::spec::cd::{Cd, CdWord0, CdWord1, CdWord2};
use smmu_core::spec::event::{Class, EventId, EventRecord, PriWord0};
use smmu_core::spec::pte::{L1Cd, L1Std, LeafDescriptor, Stage2LeafDescriptor, TableDescriptor};
use smmu_core::spec::register::{
    CmdqCons, Cr0, Cr1, Gbpa, Gerror, IrqCfg2, IrqCtrl, OutputProd, QueueBase, StrtabBase,
    StrtabBaseCfg, offset,
};
use smmu_core::spec::ste::{Ste, SteWord0, SteWord1, SteWord2, SteWord3};
use smmu_core::spec::vcmdq;

/// Row 1 of the peers' bugs: WXN, UWXN, TBI, PAN and AA64 in the wrong order.
#[test]
fn peers_row1_cd_bit_positions() {
    type Flag = fn(&CdWord0) -> bool;
    let flags: [(u32, Flag); 17] = [
        (14, CdWord0::epd0),
        (15, CdWord0::endi),
        (30, CdWord0::epd1),
        (31, CdWord0::v),
        (35, CdWord0::affd),
        (36, CdWord0::wxn),
        (37, CdWord0::uwxn),
        (38, CdWord0::tbi0),
        (39, CdWord0::tbi1),
        (40, CdWord0::pan),
        (41, CdWord0::aa64),
        (42, CdWord0::hd),
        (43, CdWord0::ha),
        (44, CdWord0::s),
        (45, CdWord0::r),
        (46, CdWord0::a),
        (47, CdWord0::aset),
    ];
    for (bit, field) in flags {
        assert!(field(&CdWord0::from_bits(1 << bit)), "bit {bit}");
        assert!(!field(&CdWord0::from_bits(!(1 << bit))), "bit {bit}");
    }
    // T0SZ=25, TG0=0, IR0=OR0=1, SH0=3, T1SZ=16, TG1=2, EPD1, V, IPS=5, AA64, R, A, ASID=0x1234.
    let word = CdWord0::from_bits(0x1234_6205_c090_3519);
    assert_eq!(
        (word.t0sz(), word.tg0(), word.ir0(), word.or0(), word.sh0()),
        (25, 0, 1, 1, 3)
    );
    assert_eq!(
        (word.t1sz(), word.tg1(), word.ips(), word.asid()),
        (16, 2, 5, 0x1234)
    );
    assert!(word.epd1() && word.v() && word.aa64() && word.r() && word.a() && !word.s());
    let word = CdWord1::from_bits(0x0000_ffff_ffff_f00f);
    assert!(word.nscfg0() && word.had0() && word.e0pd0() && word.haft());
    assert_eq!(word.ttb0() << 4, 0x0000_ffff_ffff_f000);
    let word = CdWord2::from_bits(0x0400_0000_8000_0002);
    assert!(word.had1() && word.ds() && !word.e0pd1());
    assert_eq!(word.ttb1() << 4, 0x8000_0000);
    let cd = Cd([
        0,
        0,
        0,
        0x0000_0000_f404_ff44,
        4,
        0x00aa_bbbb_0000_0000,
        6,
        7,
    ]);
    assert_eq!(
        (cd.mair(), cd.amair(), cd.piiu(), cd.piip()),
        (0xf404_ff44, 4, 6, 7)
    );
    assert_eq!((cd.dw5().partid(), cd.dw5().pmg()), (0xbbbb, 0xaa));
}

/// Row 2: the second word of the STE was laid out wrongly from bit 77 (13 of the word).
#[test]
fn peers_row2_ste_dw1_offsets() {
    type Field = fn(SteWord1) -> u64;
    let fields: [(u32, u64, Field); 24] = [
        (0, 3, |w| w.s1dss().into()),
        (2, 3, |w| w.s1cir().into()),
        (4, 3, |w| w.s1cor().into()),
        (6, 3, |w| w.s1csh().into()),
        (8, 15, |w| w.s2hwu().into()),
        (12, 1, |w| w.dre().into()),
        (13, 15, |w| w.cont().into()),
        (17, 1, |w| w.dcp().into()),
        (18, 1, |w| w.ppar().into()),
        (19, 1, |w| w.mev().into()),
        (20, 15, |w| w.sw().into()),
        (24, 1, |w| w.s1pie().into()),
        (25, 1, |w| w.s2fwb().into()),
        (26, 1, |w| w.s1mpam().into()),
        (27, 1, |w| w.s1stalld().into()),
        (28, 3, |w| w.eats().into()),
        (30, 3, |w| w.strw().into()),
        (32, 15, |w| w.mem_attr().into()),
        (36, 1, |w| w.mtcfg().into()),
        (37, 15, |w| w.alloccfg().into()),
        (44, 3, |w| w.shcfg().into()),
        (46, 3, |w| w.nscfg().into()),
        (48, 3, |w| w.privcfg().into()),
        (50, 3, |w| w.instcfg().into()),
    ];
    for (low, max, field) in fields {
        assert_eq!(
            field(SteWord1::from_bits(max << low)),
            max,
            "from bit {low}"
        );
        assert_eq!(
            field(SteWord1::from_bits(!(max << low))),
            0,
            "from bit {low}"
        );
    }
}

#[test]
fn the_other_words_of_an_ste() {
    // V, Config=101, S1Fmt=1, S1ContextPtr=0x8_1234_5040, S1CDMax=10.
    let word = SteWord0::from_bits(0x5000_0008_1234_505b);
    assert!(word.v());
    assert_eq!((word.config(), word.s1fmt(), word.s1cdmax()), (5, 1, 10));
    assert_eq!(word.s1contextptr() << 6, 0x8_1234_5040);
    // S2VMID=0xbeef, S2T0SZ=24, S2SL0=1, S2IR0=1, S2OR0=1, S2SH0=3, S2TG=0, S2PS=5, S2AA64, S2R.
    let word = SteWord2::from_bits(0x040d_3558_0000_beef);
    assert_eq!(
        (word.s2vmid(), word.s2t0sz(), word.s2sl0()),
        (0xbeef, 24, 1)
    );
    assert_eq!(
        (word.s2ir0(), word.s2or0(), word.s2sh0(), word.s2tg()),
        (1, 1, 3, 0)
    );
    assert_eq!(
        (word.s2ps(), word.s2aa64(), word.s2r(), word.s2s()),
        (5, true, true, false)
    );
    assert_eq!(
        SteWord3::from_bits(0x000f_ffff_ffff_fff0).s2ttb() << 4,
        0x000f_ffff_ffff_fff0
    );
    let ste = Ste([
        0,
        0,
        0,
        0,
        0xffff_0000_0000_0000,
        0x0000_0000_0000_5000,
        0x20,
        9,
    ]);
    assert_eq!(
        (ste.dw4().mecid(), ste.dw5().vmsptr(), ste.dw6().s_s2ttb()),
        (0xffff, 5, 2)
    );
    assert_eq!(ste.s2poi(), 9);
}

/// Row 22: CLASS is 0 for a CD, 1 for a table, 2 for the input address, at [105:104].
#[test]
fn peers_row22_event_class_encoding() {
    for (code, class) in [
        (0, Class::Cd),
        (1, Class::TranslationTable),
        (2, Class::Input),
    ] {
        let record = EventRecord([0x10, u64::from(code) << 40, 0, 0]);
        assert_eq!(Class::from_code(record.dw1().class()), Some(class));
        assert_eq!(class as u8, code);
    }
    assert_eq!(Class::from_code(3), None);
}

/// Row 28: ADDR2 lies in word 3, an IPA from bit 12 on and a fetch address from bit 3 on, both up to 55.
#[test]
fn peers_row28_addr2_position() {
    for bit in 0..64 {
        let record = EventRecord([0x10, 0, 0, 1 << bit]);
        let expected = |low| {
            if (low..56).contains(&bit) {
                1u64 << bit
            } else {
                0
            }
        };
        assert_eq!(
            (record.ipa(), record.fetch_addr()),
            (expected(12), expected(3))
        );
        let elsewhere = EventRecord([0x10, 1 << bit, 1 << bit, 0]);
        assert_eq!((elsewhere.ipa(), elsewhere.fetch_addr()), (0, 0));
    }
}

#[test]
fn an_event_record_field_by_field() {
    // F_PERMISSION, SSV, SSID=0xabcde, SID=0x108; STAG=0x1234, Stall, PnU, InD, RnW, S2, CLASS=TT,
    // TTRnW; an address; an IPA.
    let record = EventRecord([
        0x0000_0108_abcd_e813,
        0x0000_118e_8000_1234,
        0xffff_8000_0000_0fff,
        0x0000_0001_2345_6fff,
    ]);
    assert_eq!(record.id(), Some(EventId::Permission));
    let (first, second) = (record.dw0(), record.dw1());
    assert_eq!(
        (first.ssv(), first.substream(), first.stream()),
        (true, 0xabcde, 0x108)
    );
    assert_eq!(
        (second.stag(), second.stall(), second.class()),
        (0x1234, true, 1)
    );
    assert!(second.pnu() && second.ind() && second.rnw() && second.s2() && second.ttrnw());
    assert!(!second.gpcf() && !second.nsipa());
    assert_eq!(record.input_addr(), 0xffff_8000_0000_0fff);
    assert_eq!(
        (record.ipa(), record.fetch_addr()),
        (0x1_2345_6000, 0x1_2345_6ff8)
    );
    assert_eq!(EventRecord::from_le_bytes(record.to_le_bytes()), record);
    assert_eq!(record.to_le_bytes()[..4], [0x13, 0xe8, 0xcd, 0xab]);
    // E_PAGE_REQUEST: span at [115:108], pR pW pX at 103..101, uR uW uX at 99..97.
    let request = EventRecord([0x24, 0x000f_f08a_0000_0000, 0, 0]).page_request();
    assert_eq!(
        (request.span(), request.pr(), request.pw(), request.px()),
        (255, true, false, false)
    );
    assert_eq!(
        (request.ur(), request.uw(), request.ux()),
        (true, false, true)
    );
    let request = PriWord0::from_bits(0xd400_0007_0000_0108);
    assert_eq!((request.stream(), request.substream()), (0x108, 7));
    assert!(request.ssv() && request.last() && request.read() && request.privileged());
    assert!(!request.write() && !request.execute());
}

#[test]
fn every_event_has_its_code() {
    let codes: Vec<u8> = (0..=255)
        .filter(|&c| EventId::from_code(c).is_some())
        .collect();
    assert_eq!(
        codes,
        [
            0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x10, 0x11, 0x12,
            0x13, 0x20, 0x21, 0x24, 0x25
        ]
    );
    for code in codes {
        assert_eq!(EventId::from_code(code).map(|id| id as u8), Some(code));
    }
}

#[test]
fn descriptors() {
    let first = L1Std::from_bits(0x00ff_ffff_ffff_ffc9);
    assert_eq!(
        (first.span(), first.l2ptr() << 6),
        (9, 0x00ff_ffff_ffff_ffc0)
    );
    let first = L1Cd::from_bits(0x00ff_ffff_ffff_f001);
    assert_eq!(
        (first.v(), first.l2ptr() << 12),
        (true, 0x00ff_ffff_ffff_f000)
    );
    // A page as Linux maps device memory for a user: nG AF SH=3 AP=01 AttrIndx=1, UXN PXN.
    let leaf = LeafDescriptor::from_bits(0x0060_0000_8765_4f47);
    assert!(leaf.valid() && leaf.page() && leaf.unprivileged() && !leaf.read_only());
    assert!(leaf.ng() && leaf.af() && leaf.pxn() && leaf.uxn() && !leaf.dbm());
    assert_eq!(
        (leaf.attr_index(), leaf.sh(), leaf.output() << 12),
        (1, 3, 0x8765_4000)
    );
    let leaf = LeafDescriptor::from_bits(0x001b_0000_0000_0081);
    assert!(leaf.read_only() && leaf.dbm() && leaf.contiguous() && !leaf.page() && !leaf.gp());
    assert_eq!(leaf.output_49_48(), 3);
    let table = TableDescriptor::from_bits(0x7800_0000_4000_0003);
    assert!(table.pxn_table() && table.xn_table() && !table.ns_table());
    assert!(table.ap_table_no_unprivileged() && table.ap_table_read_only());
    assert_eq!(table.next() << 12, 0x4000_0000);
    let leaf = Stage2LeafDescriptor::from_bits(0x0040_0000_0000_047f);
    assert_eq!(
        (leaf.mem_attr(), leaf.readable(), leaf.writable(), leaf.xn()),
        (15, true, false, 2)
    );
}

#[test]
fn registers() {
    let cr0 = Cr0::from_bits(0x1df);
    assert!(cr0.smmuen() && cr0.priqen() && cr0.eventqen() && cr0.cmdqen() && cr0.atschk());
    assert_eq!((cr0.vmw(), cr0.dpt_walk_en()), (7, false));
    // What Linux writes to CR1: everything inner shareable, write-back.
    let cr1 = Cr1::from_bits(0xd75);
    assert_eq!((cr1.table_sh(), cr1.table_oc(), cr1.table_ic()), (3, 1, 1));
    assert_eq!((cr1.queue_sh(), cr1.queue_oc(), cr1.queue_ic()), (3, 1, 1));
    assert_eq!(Gbpa::RESET.into_bits(), 0x1000);
    assert!(Gbpa::from_bits(1 << 20).abort() && Gbpa::from_bits(1 << 31).update());
    assert!(IrqCtrl::from_bits(1).gerror_irqen() && IrqCtrl::from_bits(2).priq_irqen());
    assert!(IrqCtrl::from_bits(4).eventq_irqen() && IrqCfg2::from_bits(1 << 31).lo());
    let gerror = Gerror::from_bits(0x1fd);
    assert!(gerror.cmdq_err() && gerror.eventq_abt_err() && gerror.priq_abt_err());
    assert!(gerror.msi_cmdq_abt_err() && gerror.msi_eventq_abt_err() && gerror.msi_priq_abt_err());
    assert!(gerror.msi_gerror_abt_err() && gerror.sfm_err() && !gerror.cmdqp_err());
    assert_eq!(
        StrtabBase::from_bits(0x4000_0000_8765_43c0).addr(),
        0x8765_43c0
    );
    assert!(StrtabBase::from_bits(1 << 62).ra());
    // Two-level, SPLIT=8, 2^16 streams.
    let cfg = StrtabBaseCfg::from_bits(0x0001_0210);
    assert_eq!((cfg.fmt(), cfg.split(), cfg.log2size()), (1, 8, 16));
    // A queue of 2^8 entries of 16 bytes lies at a multiple of 4 KiB.
    let base = QueueBase::from_bits(0x4000_0000_1234_5fe8);
    assert_eq!(
        (base.log2size(), base.allocate(), base.addr(8, 16)),
        (8, true, 0x1234_5000)
    );
    assert_eq!(
        (base.addr(0, 16), base.addr(1, 16)),
        (0x1234_5fe0, 0x1234_5fe0)
    );
    let cons = CmdqCons::from_bits(0x0108_0005);
    assert_eq!((cons.rd(), cons.err()), (0x80005, 1));
    assert!(OutputProd::from_bits(1 << 31).ovflg());
    assert_eq!((offset::EVENTQ_PROD, offset::PRIQ_CONS), (0x100a8, 0x100cc));
}

#[test]
fn cmdqv_registers() {
    let alloc = vcmdq::CmdqAlloc::from_bits(0x0001_8005);
    assert_eq!((alloc.alloc(), alloc.lvcmdq(), alloc.vintf()), (true, 2, 3));
    let config = vcmdq::VintfConfig::from_bits(0x0002_0003);
    assert_eq!(
        (config.en(), config.vmid(), config.hyp_own()),
        (true, 1, true)
    );
    let param = vcmdq::Param::from_bits(0x4011);
    assert_eq!(
        (param.ver(), param.num_vcmdq_log2(), param.num_vintf_log2()),
        (1, 1, 0)
    );
    assert_eq!(param.num_sid_per_vm_log2(), 4);
    let status = vcmdq::VintfStatus::from_bits(0x0002_0003);
    assert_eq!(
        (status.en_ok(), status.status(), status.num_lvcmdq()),
        (true, 1, 2)
    );
    assert_eq!(vcmdq::SidMatch::from_bits(0x0000_0211).virt_sid(), 0x108);
    assert_eq!(
        vcmdq::VcmdqBase::from_bits(0x0000_8765_4000_000a).addr(),
        0x8765_4000_0000
    );
    assert!(vcmdq::VcmdqGerror::from_bits(4).init_err());
    assert_eq!(
        (vcmdq::offset::VCMDQ_CONS, vcmdq::offset::VCMDQ_PROD),
        (0, 4)
    );
}
