//! Memory attributes of the obvious SMMU: the tables of IHI 0070, 13, one strength for each property.

use super::model::{Registers, bit, bits};

/// The inner or the outer half of Normal memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Half {
    /// 0 not cached, 1 write-through, 2 write-back.
    cached: u64,
    read: bool,
    write: bool,
    transient: bool,
}

const WRITE_BACK: Half = Half {
    cached: 2,
    read: true,
    write: true,
    transient: false,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// 0 nGnRnE, 1 nGnRE, 2 nGRE, 3 GRE, 4 Normal: the smaller one is the stronger one.
    kind: u64,
    inner: Half,
    outer: Half,
    /// 0 none, 1 inner, 2 outer.
    shared: u64,
}

/// What a device brings with it: Normal-iWB-oWB-ISH.
pub(crate) const INCOMING: Memory = Memory {
    kind: 4,
    inner: WRITE_BACK,
    outer: WRITE_BACK,
    shared: 1,
};

/// The other end of Normal memory, for devices that say so: Normal-iWT/RAnWATR-oNC-NSH.
pub(crate) const STREAMING: Memory = Memory {
    kind: 4,
    inner: Half {
        cached: 1,
        read: true,
        write: false,
        transient: true,
    },
    outer: Half {
        cached: 0,
        read: false,
        write: false,
        transient: false,
    },
    shared: 0,
};

fn device(kind: u64) -> Memory {
    consistent(Memory { kind, ..INCOMING })
}

fn shared(sh: u64) -> u64 {
    [0, 0, 2, 1][sh as usize]
}

/// 13.1.7.
fn consistent(mut memory: Memory) -> Memory {
    for half in [&mut memory.inner, &mut memory.outer] {
        if half.cached == 0 || memory.kind < 4 {
            (half.cached, half.read, half.write) = (0, false, false);
        }
        half.transient &= half.read || half.write;
    }
    if memory.kind < 4 || memory.inner.cached + memory.outer.cached == 0 {
        memory.shared = 2;
    }
    memory
}

/// A nibble of MAIR.
fn half_of_mair(nibble: u64) -> Half {
    let reserved = nibble == 0;
    Half {
        cached: match nibble {
            4 => 0,
            0..=3 | 8..=11 => 1,
            _ => 2,
        },
        read: bit(nibble, 1) || reserved,
        write: bit(nibble, 0) || reserved,
        transient: nibble < 8,
    }
}

/// What stage 1 says: a byte of MAIR, and SH.
pub(crate) fn of_stage1(mair: u64, sh: u64) -> Memory {
    if mair < 16 {
        return device(mair / 4);
    }
    consistent(Memory {
        kind: 4,
        inner: half_of_mair(mair % 16),
        outer: half_of_mair(mair / 16),
        shared: shared(sh),
    })
}

/// MemAttr of an STE, GBPA or stage 2 without FWB, in memory that is shared so.
fn of_mem_attr(mem_attr: u64, sh: u64) -> Memory {
    match (mem_attr / 4, mem_attr % 4) {
        (0, kind) => device(kind),
        (_, 0) => device(0),
        (outer, inner) => {
            let half = |cached: u64| Half {
                cached: cached - 1,
                ..WRITE_BACK
            };
            consistent(Memory {
                kind: 4,
                inner: half(inner),
                outer: half(outer),
                shared: sh,
            })
        }
    }
}

/// 13.1.4: what the STE makes of what came in.
pub(crate) fn overridden(ste: &[u64; 8], regs: &Registers, incoming: Memory) -> Memory {
    if !bit(regs.idr1.into(), 27) {
        return incoming;
    }
    let mut memory = incoming;
    if bit(ste[1], 36) {
        memory = of_mem_attr(bits(ste[1], 35, 32), incoming.shared);
        for (new, old) in [
            (&mut memory.inner, incoming.inner),
            (&mut memory.outer, incoming.outer),
        ] {
            if incoming.kind == 4 && old.cached != 0 {
                *new = Half {
                    cached: new.cached,
                    ..old
                };
            }
        }
    }
    if bit(ste[1], 40) {
        for half in [&mut memory.inner, &mut memory.outer] {
            half.read = bit(ste[1], 39);
            half.write = bit(ste[1], 38);
            half.transient = bit(ste[1], 37);
        }
    }
    memory.shared = match bits(ste[1], 45, 44) {
        1 => incoming.shared,
        sh => shared(sh),
    };
    consistent(memory)
}

fn both_hints(a: Half, b: Half) -> Half {
    Half {
        cached: a.cached,
        read: a.read && b.read,
        write: a.write && b.write,
        transient: a.transient || b.transient,
    }
}

/// 13.4.2: the hints of an input that is cached have a say in those of stage 1.
pub(crate) fn through_stage1(stage1: Memory, input: Memory) -> Memory {
    let mut memory = stage1;
    for (own, input) in [
        (&mut memory.inner, input.inner),
        (&mut memory.outer, input.outer),
    ] {
        if input.cached != 0 {
            *own = both_hints(*own, input);
        }
    }
    consistent(memory)
}

/// 13.1.5 and 13.1.6: what came in, through a descriptor of stage 2.
pub(crate) fn through_stage2(first: Memory, descriptor: u64, sh: u64, forced: bool) -> Memory {
    let own_shared = shared(sh);
    let strongest = |own: Memory| Memory {
        kind: first.kind.min(own.kind),
        inner: Half {
            cached: first.inner.cached.min(own.inner.cached),
            ..first.inner
        },
        outer: Half {
            cached: first.outer.cached.min(own.outer.cached),
            ..first.outer
        },
        shared: first.shared.max(own_shared),
    };
    let mem_attr = bits(descriptor, 5, 2);
    if !forced {
        return consistent(strongest(of_mem_attr(mem_attr, own_shared)));
    }
    let shared = first.shared.max(own_shared);
    consistent(match mem_attr % 8 {
        kind @ 0..=3 => strongest(device(kind)),
        6 => {
            let half = |was: Half| if was.cached == 0 { WRITE_BACK } else { was };
            let forced = |was: Half| Half {
                cached: 2,
                ..half(was)
            };
            Memory {
                kind: 4,
                inner: forced(first.inner),
                outer: forced(first.outer),
                shared,
            }
        }
        7 => Memory { shared, ..first },
        _ if first.kind < 4 => Memory { shared, ..first },
        _ => of_mem_attr(5, 2),
    })
}

/// Whether MemAttr of stage 2 makes a page Device memory by itself.
pub(crate) fn is_device(descriptor: u64, forced: bool) -> bool {
    if forced {
        !bit(descriptor, 4)
    } else {
        of_mem_attr(bits(descriptor, 5, 2), 0).kind < 4
    }
}

/// What [`Memory::raw`] gave.
pub(crate) fn of_raw((mair, shared): (u8, u64)) -> Memory {
    of_stage1(mair.into(), [0, 3, 2][shared as usize])
}

impl Memory {
    /// The same as a byte of MAIR and 0 for none, 1 for inner, 2 for outer shareable.
    pub(crate) fn raw(self) -> (u8, u64) {
        let nibble = |half: Half| match half.cached {
            0 => 4,
            cached => {
                let hints = u64::from(half.read) * 2 + u64::from(half.write);
                hints + (cached - 1) * 4 + if half.transient { 0 } else { 8 }
            }
        };
        let byte = if self.kind < 4 {
            self.kind * 4
        } else {
            nibble(self.outer) * 16 + nibble(self.inner)
        };
        (byte as u8, self.shared)
    }
}
