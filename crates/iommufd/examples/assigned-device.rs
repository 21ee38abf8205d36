//! An assigned device behind an emulated SMMU: its DMA goes through the host's SMMU, nested, and the guest's
//! invalidations reach that SMMU in batches.
//!
//!     cargo run -p vcmdq-iommufd --example assigned-device -- 0000:01:00.0
//!
//! The device must be bound to vfio-pci, on an Arm host whose SMMUv3 has both stages and whose kernel has
//! `/dev/iommu` and VFIO's character devices. The guest here has one register write and one command. Without
//! a device's address it says:
//!
//! ```text
//! usage: assigned-device ADDRESS, such as 0000:01:00.0, of a device that vfio-pci has
//! ```

use iommufd_bindings::iommufd::{
    iommu_ioas_alloc, iommu_ioas_map, iommufd_ioas_map_flags_IOMMU_IOAS_MAP_FIXED_IOVA as FIXED,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_READABLE as READABLE,
    iommufd_ioas_map_flags_IOMMU_IOAS_MAP_WRITEABLE as WRITEABLE,
};
use smmu_core::StreamId;
use smmu_core::command::{Command, Signal, Tlbi};
use smmu_core::encode::encode;
use smmu_core::spec::register::{Cr0, offset};
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use vcmdq::registers::RegisterFrame;
use vcmdq::{Binding, Engine, FrameSettings, Placement, Seams, Settings, StdThreads, VmMemory};
use vcmdq_iommufd::{
    ArmSmmuv3, HostFeatures, HostInstance, IommuFd, IommufdBackend, IommufdSettings, NestedStreams,
    Offer, VfioDevice,
};
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

const RAM_BYTES: usize = 16 << 20;
/// The device, as the guest knows it.
const VSID: StreamId = StreamId(8);
/// Where the guest has put its command queue, of 2^6 entries.
const COMMANDS: u64 = 0x2_0000;
const LOG2: u64 = 6;

fn main() -> Result<(), Box<dyn Error>> {
    let Some(address) = std::env::args().nth(1) else {
        println!(
            "usage: assigned-device ADDRESS, such as 0000:01:00.0, of a device that vfio-pci has"
        );
        return Ok(());
    };

    // 1. The host's side: an iommufd, the device bound to it, and guest RAM in an address space that is
    //    stage 2.
    let iommufd = Arc::new(IommuFd::new().map_err(|error| format!("/dev/iommu: {error}"))?);
    let device = VfioDevice::bind(open(&address)?, &*iommufd)?;
    let ram: GuestMemoryMmap<()> = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM_BYTES)])?;
    let stage2 = map(&iommufd, &ram)?;

    // 2. What the guest's SMMU can be, in front of this device's.
    let features = HostFeatures::of_device(&*iommufd, device.id)?;
    let caps = Offer::new(48).capabilities(&features)?;

    // 3. The engine with a frame of these capabilities. Its streams become nested page tables.
    let memory = Arc::new(VmMemory::new(ram.clone()));
    let streams = NestedStreams::new(memory.clone());
    let engine = Engine::start(Settings::default(), Arc::new(StdThreads))?;
    let mut seams = Seams::new(memory);
    seams.streams = streams.clone();
    let settings = FrameSettings {
        caps,
        ..Default::default()
    };
    let frame = Arc::new(engine.add_frame(settings, seams));
    streams.connect(&frame);
    let smmu = RegisterFrame::new(frame.clone())?;

    // 4. The instance: a vIOMMU on the device's SMMU, with one stage 2 and one VMID. Then the device, which is
    //    attached to what the guest's STE says from here on.
    let arm = ArmSmmuv3::new(features.ranges);
    let host = HostInstance::new(iommufd.clone(), Arc::new(arm), device.id, stage2, &caps)?;
    let settings = IommufdSettings::new(streams.of_instance(&host));
    let backend = Arc::new(IommufdBackend::new(iommufd, host.target(), arm, settings));
    let placement = Placement::default();
    let binding = Binding {
        instance: frame.add_instance(backend.clone(), placement),
        placement,
    };
    streams.plug(&frame, VSID, device, &host, binding)?;

    // 5. The guest switches its queue on and invalidates everything.
    smmu.write(offset::CMDQ_BASE, 8, COMMANDS | LOG2);
    smmu.write(
        offset::CR0,
        4,
        Cr0::new().with_cmdqen(true).into_bits().into(),
    );
    let commands = [Command::Tlbi(Tlbi::NsnhAll), Command::Sync(Signal::None)];
    for (slot, command) in (0..).zip(&commands) {
        let (raw, at) = (encode(command), COMMANDS + 16 * slot);
        ram.store(raw.dw0.to_le(), GuestAddress(at), Ordering::Relaxed)?;
        ram.store(raw.dw1.to_le(), GuestAddress(at + 8), Ordering::Relaxed)?;
    }
    smmu.write(offset::CMDQ_PROD, 4, 2);
    while smmu.read(offset::CMDQ_CONS, 4) != 2 {
        std::thread::yield_now();
    }
    let attached = streams.stream(VSID).map(|stream| stream.attached);
    println!("{address} is stream {VSID} of the guest, attached: {attached:?}");
    println!("{:?}", backend.metrics());

    // 6. The device is given back, then the engine stops.
    streams.unplug(&frame, VSID)?;
    engine.stop();
    Ok(())
}

/// The device's file.
fn open(address: &str) -> Result<File, String> {
    let directory = format!("/sys/bus/pci/devices/{address}/vfio-dev");
    let missing = |error| format!("{directory}: {error}; bind the device to vfio-pci");
    let mut names = std::fs::read_dir(&directory).map_err(missing)?;
    let name = names.next().ok_or("vfio-pci has not taken the device")?;
    let name = name.map_err(missing)?.file_name();
    let path = format!("/dev/vfio/devices/{}", name.to_string_lossy());
    let file = OpenOptions::new().read(true).write(true).open(&path);
    file.map_err(|error| format!("{path}: {error}"))
}

/// All of guest RAM, in an address space of the iommufd.
fn map(iommufd: &IommuFd, ram: &GuestMemoryMmap<()>) -> Result<u32, Box<dyn Error>> {
    let mut space = iommu_ioas_alloc {
        size: size_of::<iommu_ioas_alloc>() as u32,
        ..Default::default()
    };
    iommufd.alloc_iommu_ioas(&mut space)?;
    let map = iommu_ioas_map {
        size: size_of::<iommu_ioas_map>() as u32,
        flags: FIXED | READABLE | WRITEABLE,
        ioas_id: space.out_ioas_id,
        user_va: ram.get_host_address(GuestAddress(0))? as u64,
        length: RAM_BYTES as u64,
        iova: 0,
        ..Default::default()
    };
    iommufd.map_iommu_ioas(&map)?;
    Ok(space.out_ioas_id)
}
