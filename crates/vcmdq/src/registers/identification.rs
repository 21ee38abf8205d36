//! Registers that say what the SMMU is (IHI 0070, 6.3.1 to 6.3.8 and 6.3.70).

use smmu_core::Capabilities;
use smmu_core::spec::register::offset;

/// CIDR0 to CIDR3: the preamble of every component's identification, class 0xF. The part numbers
/// before it (PIDR) are zero: nobody is to take this for a product with errata.
const COMPONENT: [u8; 4] = [0x0D, 0xF0, 0x05, 0xB1];

/// The value of an identification register; `None` if the offset is no such register. IIDR is
/// zero, which is nobody's product; IDR2 and IDR4 describe nothing that is offered.
pub(super) fn read(register: u64, caps: &Capabilities) -> Option<u32> {
    Some(match register {
        offset::IDR0 => caps.idr0.into_bits(),
        offset::IDR1 => caps.idr1.into_bits(),
        offset::IDR3 => caps.idr3.into_bits(),
        offset::IDR5 => caps.idr5.into_bits(),
        offset::AIDR => caps.aidr.into_bits(),
        offset::IDR2 | offset::IDR4 | offset::IIDR => 0,
        offset::ID_REGS..0x1000 => {
            let word = (register - offset::ID_REGS) as usize / 4;
            let part = word.checked_sub(8).and_then(|n| COMPONENT.get(n));
            part.copied().unwrap_or(0).into()
        }
        _ => return None,
    })
}
