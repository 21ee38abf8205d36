//! Where things lie in the guest.

/// Where RAM begins on the machine `virt`.
pub const RAM: u64 = 0x4000_0000;
/// MiB of RAM: enough for output addresses of more than 32 bits. Only what is touched is memory.
pub const RAM_MIB: u64 = 8 << 10;
/// Behind RAM.
pub const RAM_END: u64 = RAM + (RAM_MIB << 20);

/// The command queue.
pub const COMMANDS: u64 = RAM;
/// log2 of its entries.
pub const COMMANDS_LOG2: u64 = 12;
/// The event queue.
pub const EVENTS: u64 = RAM + 0x10_0000;
/// log2 of its entries.
pub const EVENTS_LOG2: u64 = 10;
/// The stream table, or its first level.
pub const STREAMS: u64 = RAM + 0x20_0000;
/// The second level of the stream table.
pub const STREAMS_SECOND: u64 = RAM + 0x21_0000;
/// log2 of the number of streams.
pub const STREAMS_LOG2: u8 = 8;
/// StreamID bits of the second level.
pub const STREAMS_SPLIT: u8 = 6;

/// Contexts and page tables.
pub const TABLES: u64 = RAM + 0x100_0000;
/// What accesses reach: behind all tables.
pub const PAGES: u64 = 0x8000_0000;

/// The SMMU's registers.
pub const SMMU: u64 = 0x0905_0000;
/// The configuration space of bus 0.
pub const CONFIG_SPACE: u64 = 0x40_1000_0000;
/// Bytes of it for each function.
pub const CONFIG_BYTES: u64 = 0x1000;
/// Functions in a slot.
pub const FUNCTIONS: u64 = 8;

/// Registers of the device that writes.
pub const WRITER: u64 = 0x1000_0000;
/// Its slot on bus 0.
pub const WRITER_SLOT: u64 = 1;
/// Registers of the device that reads.
pub const READER: u64 = 0x1010_0000;
/// Its slot on bus 0.
pub const READER_SLOT: u64 = 2;

/// The StreamID of the device in a slot.
#[must_use]
pub fn stream_of(slot: u64) -> u32 {
    (slot * FUNCTIONS) as u32
}

/// Whether an address is RAM.
#[must_use]
pub fn is_ram(address: u64) -> bool {
    (RAM..RAM_END).contains(&address)
}
