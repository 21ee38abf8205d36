//! Who may do what with a page (Arm ARM D8.4, without overlays and indirection).

use crate::access::{Access, Operation};
use crate::config::{Context, World};
use crate::spec::pte::{LeafDescriptor, Stage2LeafDescriptor, TableDescriptor};

/// Six rights: read, write and execute, without and with privilege.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Permissions(u8);

const UNPRIVILEGED: u32 = 0;
const PRIVILEGED: u32 = 3;
const READ: u8 = 1;
const WRITE: u8 = 2;
const EXECUTE: u8 = 4;

impl Permissions {
    /// Everything, as a bypassed stage allows.
    pub const ALL: Self = Self(0x3F);

    /// From the low six bits: read, write, execute without privilege, then with.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits & 0x3F)
    }

    /// The low six bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether an access is allowed.
    #[must_use]
    #[inline]
    pub fn allow(self, access: &Access) -> bool {
        let right = match access.operation {
            Operation::Read => READ,
            Operation::Write => WRITE,
            Operation::Execute => EXECUTE,
        };
        let shift = if access.privileged {
            PRIVILEGED
        } else {
            UNPRIVILEGED
        };
        self.0 >> shift & right != 0
    }

    /// What both allow.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The same without writing.
    pub(super) const fn read_only(self) -> Self {
        Self(self.0 & !(WRITE << UNPRIVILEGED | WRITE << PRIVILEGED))
    }

    /// The rights of a stage 2 leaf; `xnx` is IDR3.XNX, without which XN is one bit.
    #[inline(always)]
    pub(super) fn of_stage2(leaf: Stage2LeafDescriptor, xnx: bool) -> Self {
        let (user, privileged) = match leaf.xn() {
            0 => (true, true),
            1 if xnx => (true, false),
            3 if xnx => (false, true),
            1 => (true, true),
            _ => (false, false),
        };
        let (read, write) = (leaf.readable(), leaf.writable());
        Self(
            Self::of(read, write, user) << UNPRIVILEGED
                | Self::of(read, write, privileged) << PRIVILEGED,
        )
    }

    #[inline]
    fn of(read: bool, write: bool, execute: bool) -> u8 {
        let bit = |right, allowed| if allowed { right } else { 0 };
        bit(READ, read) | bit(WRITE, write) | bit(EXECUTE, execute)
    }
}

/// What the table descriptors on the way forbid: all of their bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Inherited(u64);

impl Inherited {
    #[inline]
    pub(super) fn add(&mut self, table: u64) {
        self.0 |= table;
    }

    /// The rights of a leaf below these tables.
    #[inline(always)]
    pub(super) fn permissions(self, leaf: LeafDescriptor, context: &Context) -> Permissions {
        let tables = TableDescriptor::from_bits(self.0);
        let write = !(leaf.read_only() || tables.ap_table_read_only());
        let never = leaf.uxn() || tables.xn_table();
        let wxn = context.writable_never_executable;
        if context.world == World::El2 {
            // One level of privilege: AP[1] and PXN are not looked at.
            let both = Permissions::of(true, write, !(never || wxn && write));
            return Permissions(both << UNPRIVILEGED | both << PRIVILEGED);
        }
        let user = leaf.unprivileged() && !tables.ap_table_no_unprivileged();
        let user_write = user && write;
        let user_execute = !(never || wxn && user_write);
        // What an unprivileged program can write, privileged code never executes.
        let execute = !(leaf.pxn() || tables.pxn_table() || user_write || wxn && write);
        let reachable = !(context.privileged_access_never && user);
        Permissions(
            Permissions::of(user, user_write, user_execute) << UNPRIVILEGED
                | Permissions::of(reachable, reachable && write, execute) << PRIVILEGED,
        )
    }
}
