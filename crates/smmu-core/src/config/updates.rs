//! What a walk may write.

/// What of its leaf descriptors a stage has updated by the walk (CD.{HA,HD}, STE.{S2HA,S2HD}; IHI
/// 0070, 3.13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Updates {
    /// A clear access flag is set instead of being a fault.
    pub access_flag: bool,
    /// A write to a read-only page with DBM makes it writable instead of being a fault. Only with
    /// `access_flag`: HD or S2HD without HA or S2HA is reserved and does nothing.
    pub dirty: bool,
}

impl Updates {
    pub(super) fn of(access_flag: bool, dirty: bool) -> Self {
        Self {
            access_flag,
            dirty: access_flag && dirty,
        }
    }
}
