//! What a guest driver sees of a command queue besides its memory.

/// The registers of one command queue, as the guest's CPUs reach them.
///
/// Called from any producer thread, several at once; only one at a time writes PROD.
/// An implementation over a trapped page may take as long as an exit, but never waits
/// for commands to be executed, unless executing them inside the write is what it models.
pub trait QueueRegisters: Send + Sync {
    /// CMDQ_PROD, \[19:0\] index and wrap bit. Everything that the caller wrote to guest memory
    /// before is visible to whoever sees the value (release).
    fn write_prod(&self, raw: u32);

    /// CMDQ_CONS: RD in \[19:0\], ERR in \[30:24\]. What the consumer wrote to guest memory before
    /// it published RD is visible to the caller (acquire).
    fn read_cons(&self) -> u32;

    /// GERROR. Bit 0, CMDQ_ERR, is active where it differs from GERRORN's.
    fn read_gerror(&self) -> u32;

    /// GERRORN, as last written.
    fn read_gerrorn(&self) -> u32;

    /// Acknowledges: consumption resumes when bit 0 equals GERROR's. What the caller wrote to
    /// guest memory before is visible to the consumer (release).
    fn write_gerrorn(&self, raw: u32);
}
