//! Puts an SMMU into a devicetree, and the devices on PCIe behind it.

use super::tree::{Malformed, Node, Tree, first_cell, to_bytes};

/// Where the registers lie in guest RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// First byte of the reserved memory, 2 MiB aligned.
    pub reserved: u64,
    /// Bytes of it.
    pub bytes: u64,
    /// Registers of the SMMU: 128 KiB from here.
    pub smmu: u64,
    /// Registers of the CMDQV: 0x50000 bytes from here, if there is one.
    pub cmdqv: Option<u64>,
    /// Shared peripheral interrupts of event queue, PRI queue, SYNC, GERROR and CMDQV, five in
    /// a row from this one.
    pub first_spi: u32,
}

/// Bytes of the register pages 0 and 1.
const SMMU_BYTES: u64 = 0x2_0000;
/// Bytes of the CMDQV's registers with one VINTF.
const CMDQV_BYTES: u64 = 0x5_0000;
/// An edge, as IHI 0070, 3.18 has it.
const EDGE: u32 = 1;

/// Adds the reserved memory, the SMMU in it, and `iommu-map` on PCIe. With `messages`, the SMMU sends
/// its interrupts to the frame of the interrupt controller that takes messages, if there is one.
///
/// # Errors
///
/// The tree is not one of QEMU's machine `virt`.
pub fn with_smmu(tree: &mut Tree, place: &Place, messages: bool) -> Result<(), Malformed> {
    let root = &mut tree.root;
    let mut phandle = root.largest_phandle();
    let mut next = || {
        phandle += 1;
        phandle
    };
    let smmu = next();
    let controller = message_controller(root).filter(|_| messages);
    root.children.push(reserved_memory(place));
    let mut node = smmu_node(place, smmu);
    if let Some(controller) = controller {
        node = node.with_cells("msi-parent", &[controller]);
    }
    if let Some(cmdqv) = place.cmdqv {
        let handle = next();
        node.set("compatible", *b"nvidia,tegra264-smmu\0arm,smmu-v3\0");
        node.set("nvidia,cmdqv", to_bytes(&[handle]));
        root.children.push(cmdqv_node(place, cmdqv, handle));
    }
    root.children.push(node);
    let pcie = root.child_mut("pcie").ok_or(Malformed("no PCIe"))?;
    pcie.set("iommu-map", to_bytes(&[0, smmu, 0, 0x1_0000]));
    Ok(())
}

/// The frame of GICv2 that takes messages.
fn message_controller(root: &mut Node) -> Option<u32> {
    let controller = root.child_mut("intc")?.child_mut("v2m")?;
    first_cell(controller.property("phandle")?)
}

fn pair(value: u64) -> [u32; 2] {
    [(value >> 32) as u32, value as u32]
}

fn reg(start: u64, bytes: u64) -> Vec<u8> {
    to_bytes(&[pair(start), pair(bytes)].concat())
}

fn reserved_memory(place: &Place) -> Node {
    let mut node = Node::new("reserved-memory")
        .with_cells("#address-cells", &[2])
        .with_cells("#size-cells", &[2])
        .with("ranges", []);
    let part = Node::new(&format!("registers@{:x}", place.reserved))
        .with("reg", reg(place.reserved, place.bytes))
        .with("no-map", []);
    node.children.push(part);
    node
}

fn smmu_node(place: &Place, phandle: u32) -> Node {
    let spi = |index: u32| [0, place.first_spi + index, EDGE];
    Node::new(&format!("iommu@{:x}", place.smmu))
        .with("compatible", *b"arm,smmu-v3\0")
        .with("reg", reg(place.smmu, SMMU_BYTES))
        .with(
            "interrupts",
            to_bytes(&[spi(0), spi(1), spi(2), spi(3)].concat()),
        )
        .with("interrupt-names", *b"eventq\0priq\0cmdq-sync\0gerror\0")
        .with("dma-coherent", [])
        .with_cells("#iommu-cells", &[1])
        .with_cells("phandle", &[phandle])
}

fn cmdqv_node(place: &Place, start: u64, phandle: u32) -> Node {
    Node::new(&format!("cmdqv@{start:x}"))
        .with("compatible", *b"nvidia,tegra264-cmdqv\0")
        .with("reg", reg(start, CMDQV_BYTES))
        .with_cells("interrupts", &[0, place.first_spi + 4, EDGE])
        .with_cells("phandle", &[phandle])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn virt() -> Tree {
        let mut root = Node::new("");
        let mut intc = Node::new("intc@8000000").with_cells("phandle", &[0x8002]);
        let v2m = Node::new("v2m@8020000").with_cells("phandle", &[0x8003]);
        intc.children.push(v2m);
        root.children.push(intc);
        root.children.push(Node::new("pcie@10000000"));
        Tree::of(root)
    }

    const PLACE: Place = Place {
        reserved: 0x5FE0_0000,
        bytes: 0x20_0000,
        smmu: 0x5FE0_0000,
        cmdqv: None,
        first_spi: 0x60,
    };

    fn find<'a>(tree: &'a Tree, name: &str) -> Option<&'a Node> {
        tree.root.children.iter().find(|node| node.name == name)
    }

    #[test]
    fn pcie_points_to_the_smmu_and_the_smmu_to_its_pages() {
        let mut tree = virt();
        with_smmu(&mut tree, &PLACE, true).expect("a virt machine");
        let smmu = find(&tree, "iommu@5fe00000").expect("an SMMU");
        assert_eq!(smmu.property("compatible"), Some(&b"arm,smmu-v3\0"[..]));
        let cells = to_bytes(&[0, 0x5FE0_0000, 0, 0x2_0000]);
        assert_eq!(smmu.property("reg"), Some(&*cells));
        assert_eq!(smmu.property("msi-parent"), Some(&*to_bytes(&[0x8003])));
        let pcie = find(&tree, "pcie@10000000").expect("PCIe");
        let map = to_bytes(&[0, 0x8004, 0, 0x1_0000]);
        assert_eq!(pcie.property("iommu-map"), Some(&*map));
        let reserved = find(&tree, "reserved-memory").expect("reserved memory");
        assert!(reserved.children[0].property("no-map").is_some());
        assert!(find(&tree, "cmdqv@5fe40000").is_none());
    }

    #[test]
    fn a_cmdqv_is_named_by_the_smmu() {
        let mut tree = virt();
        let place = Place {
            cmdqv: Some(0x5FE4_0000),
            ..PLACE
        };
        with_smmu(&mut tree, &place, false).expect("a virt machine");
        let smmu = find(&tree, "iommu@5fe00000").expect("an SMMU");
        let cmdqv = find(&tree, "cmdqv@5fe40000").expect("a CMDQV");
        assert_eq!(smmu.property("nvidia,cmdqv"), cmdqv.property("phandle"));
        assert_ne!(smmu.property("phandle"), cmdqv.property("phandle"));
        assert!(smmu.property("msi-parent").is_none());
        let reg = cmdqv.property("reg").expect("reg");
        assert_eq!(reg, to_bytes(&[0, 0x5FE4_0000, 0, 0x5_0000]));
    }

    #[test]
    fn a_machine_without_pcie_is_refused() {
        let mut tree = Tree::of(Node::new(""));
        assert_eq!(
            with_smmu(&mut tree, &PLACE, false),
            Err(Malformed("no PCIe"))
        );
    }
}
