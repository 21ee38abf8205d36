//! The frame: where an access goes.

use super::group::{Group, MAX_QUEUES, Member};
use super::page::PageWindow;
use crate::doorbell::check::check_alignment;
use crate::error::RingError;
use crate::frame::{Frame, FrameShared};
use crate::ring::{DoorbellMode, Ring};
use crate::ring_page::{QUEUE_WORDS, RingPage};
use crate::seams::{Interrupts, Passage};
use smmu_core::spec::vcmdq::{CmdqAlloc, Config, VintfConfig, offset};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vcmdq_sync::atomic::{AtomicU64, Ordering};

/// Bytes of the frame's registers.
pub const FRAME_BYTES: u64 = offset::VINTF_PAGES + offset::VINTF_PAGES_STRIDE;

/// log2 of the number of SID_MATCH pairs.
pub(super) const SIDS_LOG2: u8 = 4;
pub(super) const SIDS: usize = 1 << SIDS_LOG2;

/// Settings of a [`CmdqvFrame`].
#[derive(Clone)]
pub struct CmdqvSettings {
    /// log2 of the number of VCMDQs, 0 to 4. Linux uses one for each CPU, modulo their number.
    pub log2_queues: u8,
    /// Page 0 of the VINTF (offset 0x30000), if it is memory that the VMM maps into the guest: 64
    /// KiB, of which only the windows of the queues are looked at. `None`: it traps.
    pub page: Option<Arc<dyn RingPage>>,
}

impl Default for CmdqvSettings {
    /// Eight queues, all trapped.
    fn default() -> Self {
        Self {
            log2_queues: 3,
            page: None,
        }
    }
}

impl fmt::Debug for CmdqvSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CmdqvSettings")
            .field("log2_queues", &self.log2_queues)
            .field("page", &self.page.is_some())
            .finish()
    }
}

/// A frame could not get a CMDQV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CmdqvError {
    /// It has one.
    #[error("the frame has a CMDQV already")]
    Present,
    /// Too many queues.
    #[error("2^{0} queues: choose log2_queues 0 to 4")]
    Queues(u8),
    /// The page does not hold the windows of all queues.
    #[error("the shared page has {words} words; {queues} queues need {}", queues * QUEUE_WORDS)]
    PageTooSmall {
        /// Words of the page.
        words: usize,
        /// Queues.
        queues: usize,
    },
    /// A passage to a page that is not there.
    #[error("an adaptive doorbell needs CmdqvSettings::page")]
    NoPage,
    /// A ring could not be added.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// Registers that only vCPUs and control calls use. Rarely written, so behind a lock that nobody
/// holds while he waits for a worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Registers {
    pub(super) config: Config,
    pub(super) int_mask: [u32; 2],
    pub(super) alloc: [CmdqAlloc; MAX_QUEUES],
    pub(super) vintf: VintfConfig,
    pub(super) sid_match: [u32; SIDS],
    pub(super) sid_replace: [u32; SIDS],
    pub(super) cons_indx_base: [u64; MAX_QUEUES],
}

impl Registers {
    /// The logical queue that a VCMDQ belongs to, if it is allocated to the VINTF.
    pub(super) fn logical(&self, queue: usize, queues: usize) -> Option<usize> {
        let alloc = self.alloc[queue];
        let logical = usize::from(alloc.lvcmdq());
        (alloc.alloc() && alloc.vintf() == 0 && logical < queues).then_some(logical)
    }
}

/// What the frame's owner and the SMMU's [`Frame`] share.
pub(crate) struct Shared {
    pub(super) rings: Vec<Arc<Ring>>,
    pub(super) group: Arc<Group>,
    pub(super) frame: Arc<FrameShared>,
    pub(super) interrupts: Arc<dyn Interrupts>,
    pub(super) control: Mutex<Registers>,
    ignored: AtomicU64,
}

impl Shared {
    pub(super) fn control(&self) -> MutexGuard<'_, Registers> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn queues(&self) -> usize {
        self.rings.len()
    }

    /// Lets run what CONFIG, VINTF_CONFIG and the allocation map allow.
    pub(super) fn regate(&self, registers: &Registers) {
        let queues = self.queues();
        let on = registers.config.en() && registers.vintf.en();
        for (logical, ring) in self.rings.iter().enumerate() {
            let owned = (0..queues).any(|q| registers.logical(q, queues) == Some(logical));
            ring.set_gate(on && owned);
        }
    }

    /// Whether some queue has not been disabled yet.
    pub(super) fn any_runs(&self) -> bool {
        self.rings.iter().any(|ring| ring.is_enabled())
    }
}

/// A Tegra241 CMDQV in front of a [`Frame`]; see the [module](super).
///
/// [`read`](Self::read) and [`write`](Self::write) are for vCPU exits: from any thread, several at
/// once, they never wait for a worker. The other methods are control calls: they may wait for a
/// worker's present slice.
pub struct CmdqvFrame {
    pub(super) shared: Arc<Shared>,
}

impl fmt::Debug for CmdqvFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CmdqvFrame")
            .field("rings", &self.shared.rings)
            .field("registers", &*self.shared.control())
            .finish_non_exhaustive()
    }
}

impl Frame {
    /// Puts a CMDQV beside the SMMU's own queue: adds its rings to the frame, disabled. One for
    /// each frame.
    pub fn add_cmdqv(&self, settings: CmdqvSettings) -> Result<CmdqvFrame, CmdqvError> {
        self.add_cmdqv_behind(settings, None)
    }

    /// The same with a page 0 that the VMM maps into the guest only while the guest is busy
    /// ([`DoorbellMode::Adaptive`]). It begins at a multiple of 4096 in this process.
    pub fn add_adaptive_cmdqv(
        &self,
        settings: CmdqvSettings,
        passage: &Arc<dyn Passage>,
    ) -> Result<CmdqvFrame, CmdqvError> {
        let page = settings.page.as_ref().ok_or(CmdqvError::NoPage)?;
        check_alignment(&**page)?;
        self.add_cmdqv_behind(settings, Some(passage))
    }

    fn add_cmdqv_behind(
        &self,
        settings: CmdqvSettings,
        passage: Option<&Arc<dyn Passage>>,
    ) -> Result<CmdqvFrame, CmdqvError> {
        let CmdqvSettings { log2_queues, page } = settings;
        let queues = 1usize
            .checked_shl(u32::from(log2_queues))
            .filter(|queues| *queues <= MAX_QUEUES)
            .ok_or(CmdqvError::Queues(log2_queues))?;
        if let Some(page) = &page {
            let words = page.words().len();
            if words < queues * QUEUE_WORDS {
                return Err(CmdqvError::PageTooSmall { words, queues });
            }
        }
        self.room_for(queues)?;
        let group = Arc::new(Group::new(queues, page.clone()));
        if !self.set_vintf(&group) {
            return Err(CmdqvError::Present);
        }
        let ring = |index| {
            let mode = match &page {
                None => DoorbellMode::Trap,
                Some(page) => {
                    let page = Arc::new(PageWindow::new(page.clone(), index));
                    match passage {
                        None => DoorbellMode::SharedPage(page),
                        Some(passage) => DoorbellMode::Adaptive {
                            page,
                            passage: passage.clone(),
                        },
                    }
                }
            };
            let group = group.clone();
            self.add_ring_of(mode, Some(Member { group, index }))
        };
        let rings = (0..queues).map(ring).collect::<Result<_, _>>()?;
        let shared = Arc::new(Shared {
            rings,
            group,
            frame: self.shared().clone(),
            interrupts: self.interrupts(),
            control: Mutex::default(),
            ignored: AtomicU64::new(0),
        });
        self.set_cmdqv(&shared);
        Ok(CmdqvFrame { shared })
    }
}

impl CmdqvFrame {
    /// The rings of the logical queues, by their numbers.
    #[must_use]
    pub fn rings(&self) -> &[Arc<Ring>] {
        &self.shared.rings
    }

    /// Accesses of a width or alignment that no register has. They read as zero and write nothing.
    #[must_use]
    pub fn ignored_accesses(&self) -> u64 {
        self.shared.ignored.load(Ordering::Relaxed)
    }

    /// A guest reads `width` bytes, 4 or 8, at `at` bytes from the start of the frame. 8 bytes
    /// are for registers of 64 bits; each of their halves can be read alone.
    #[must_use]
    pub fn read(&self, at: u64, width: u8) -> u64 {
        self.shared.frame.zones.drain();
        match (width, at % 4) {
            (4, 0) => u64::from(self.read32(at)),
            (8, 0) if is_wide(at) => {
                u64::from(self.read32(at)) | u64::from(self.read32(at + 4)) << 32
            }
            _ => {
                self.ignore();
                0
            }
        }
    }

    /// A guest writes; conditions as for [`read`](Self::read). Returns before what it starts is
    /// done: STATUS follows.
    pub fn write(&self, at: u64, width: u8, value: u64) {
        self.shared.frame.zones.drain();
        match (width, at % 4) {
            (4, 0) => self.write32(at, value as u32),
            (8, 0) if is_wide(at) => self.write64(at, value),
            _ => self.ignore(),
        }
    }

    /// Everything as when the frame was added, in any state. Returns at once, also while commands are
    /// being consumed; STATUS of the queues follows. From any thread.
    pub fn reset(&self) {
        let shared = &self.shared;
        let mut registers = shared.control();
        *registers = Registers::default();
        shared.group.masked.store(false, Ordering::Release);
        for (ring, lane) in shared.rings.iter().zip(&shared.group.lanes) {
            lane.set_base(0);
            ring.reset_vcmdq();
        }
    }

    fn ignore(&self) {
        self.shared.ignored.fetch_add(1, Ordering::Relaxed);
    }

    fn read32(&self, at: u64) -> u32 {
        let shared = &*self.shared;
        match Place::of(at) {
            Place::Config(register) => shared.read_config(register),
            Place::Global0(queue, register) => shared.read_page0(shared.alias(queue), register),
            Place::Global1(queue, register) => shared.read_page1(shared.alias(queue), register),
            Place::Logical0(queue, register) => shared.read_page0(queue, register),
            Place::Logical1(queue, register) => shared.read_page1(queue, register),
            Place::Nothing => 0,
        }
    }

    fn write32(&self, at: u64, value: u32) {
        let shared = &*self.shared;
        match Place::of(at) {
            Place::Config(register) => shared.write_config(register, value),
            Place::Global0(queue, register) => {
                shared.write_page0(shared.alias(queue), register, value);
            }
            Place::Logical0(queue, register) => shared.write_page0(queue, register, value),
            Place::Global1(queue, register) => {
                shared.write_page1_half(shared.alias(queue), register, value);
            }
            Place::Logical1(queue, register) => shared.write_page1_half(queue, register, value),
            Place::Nothing => {}
        }
    }

    /// At a register of 64 bits.
    fn write64(&self, at: u64, value: u64) {
        let shared = &*self.shared;
        match Place::of(at) {
            Place::Global1(queue, register) => {
                shared.write_page1(shared.alias(queue), register, value);
            }
            Place::Logical1(queue, register) => shared.write_page1(queue, register, value),
            // The error map, which is read-only.
            _ => {}
        }
    }
}

impl Drop for CmdqvFrame {
    /// The queues stop; their rings stay with the frame.
    fn drop(&mut self) {
        let mut registers = self.shared.control();
        registers.config.set_en(false);
        self.shared.regate(&registers);
    }
}

/// A register, by page.
enum Place {
    Config(u64),
    Global0(usize, u64),
    Global1(usize, u64),
    Logical0(usize, u64),
    Logical1(usize, u64),
    Nothing,
}

impl Place {
    fn of(at: u64) -> Self {
        let inside = at % offset::VINTF_PAGE_BYTES;
        let queue = (inside / offset::VCMDQ_STRIDE) as usize;
        let register = inside % offset::VCMDQ_STRIDE;
        match at - inside {
            0 => Self::Config(inside),
            offset::VCMDQ_PAGE0 => Self::Global0(queue, register),
            offset::VCMDQ_PAGE1 => Self::Global1(queue, register),
            offset::VINTF_PAGES => Self::Logical0(queue, register),
            LOGICAL_PAGE1 => Self::Logical1(queue, register),
            _ => Self::Nothing,
        }
    }
}

const LOGICAL_PAGE1: u64 = offset::VINTF_PAGES + offset::VINTF_PAGE_BYTES;
const ERR_MAP: u64 = offset::VINTF + offset::VINTF_LVCMDQ_ERR_MAP;

/// Whether a register of 64 bits begins there.
fn is_wide(at: u64) -> bool {
    match Place::of(at) {
        Place::Global1(_, register) | Place::Logical1(_, register) => {
            register == offset::VCMDQ_BASE || register == offset::VCMDQ_CONS_INDX_BASE
        }
        Place::Config(register) => register == ERR_MAP || register == ERR_MAP + 8,
        _ => false,
    }
}
