//! A devicetree in memory. vm-fdt writes it; it has no reader, so that is here (Devicetree
//! Specification 0.4, chapter 5). What is read comes from QEMU, but lengths are checked all the same.

use vm_fdt::FdtWriter;

const MAGIC: u32 = 0xD00D_FEED;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROPERTY: u32 = 3;
const NOTHING: u32 = 4;
const END: u32 = 9;

/// Not a devicetree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed devicetree: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// A node. Order is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// With the unit address; empty for the root.
    pub name: String,
    /// Names and bytes.
    pub properties: Vec<(String, Vec<u8>)>,
    /// The nodes in it.
    pub children: Vec<Node>,
}

impl Node {
    /// A node without anything in it.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }

    /// A property's bytes.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&[u8]> {
        let found = self.properties.iter().find(|(key, _)| key == name);
        found.map(|(_, bytes)| &**bytes)
    }

    /// Sets a property.
    #[must_use]
    pub fn with(mut self, name: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.set(name, bytes);
        self
    }

    /// Sets a property to big-endian cells.
    #[must_use]
    pub fn with_cells(self, name: &str, cells: &[u32]) -> Self {
        self.with(name, to_bytes(cells))
    }

    /// Sets a property.
    pub fn set(&mut self, name: &str, bytes: impl Into<Vec<u8>>) {
        self.properties.retain(|(key, _)| key != name);
        self.properties.push((name.to_owned(), bytes.into()));
    }

    /// The first child whose name, without the unit address, is `name`.
    pub fn child_mut(&mut self, name: &str) -> Option<&mut Node> {
        let base = |node: &Node| node.name.split('@').next() == Some(name);
        self.children.iter_mut().find(|node| base(node))
    }

    /// The largest phandle in this node and below.
    #[must_use]
    pub fn largest_phandle(&self) -> u32 {
        let own = self.property("phandle").and_then(first_cell).unwrap_or(0);
        let below = self.children.iter().map(Node::largest_phandle);
        below.fold(own, u32::max)
    }
}

/// Cells as bytes.
#[must_use]
pub(super) fn to_bytes(cells: &[u32]) -> Vec<u8> {
    cells.iter().flat_map(|cell| cell.to_be_bytes()).collect()
}

/// The first cell of a property.
pub(super) fn first_cell(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(..4)?.try_into().ok()?))
}

/// A whole devicetree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The node without a name.
    pub root: Node,
    boot_cpu: u32,
}

impl Tree {
    /// Reads a blob.
    ///
    /// # Errors
    ///
    /// It is none, or damaged.
    pub fn read(blob: &[u8]) -> Result<Self, Malformed> {
        let header = |index: usize| first_cell(blob.get(4 * index..).unwrap_or_default());
        let header = |index: usize| header(index).ok_or(Malformed("the header is cut off"));
        if header(0)? != MAGIC {
            return Err(Malformed("no magic number"));
        }
        let from = |offset: u32| {
            let rest = blob.get(offset as usize..);
            rest.ok_or(Malformed("a block lies outside"))
        };
        let mut reader = Reader {
            rest: from(header(2)?)?,
            strings: from(header(3)?)?,
        };
        if reader.token()? != BEGIN_NODE {
            return Err(Malformed("no root"));
        }
        let root = reader.node(0)?;
        if reader.token()? != END {
            return Err(Malformed("something behind the root"));
        }
        let boot_cpu = header(7)?;
        Ok(Self { root, boot_cpu })
    }

    /// A tree from its root.
    #[must_use]
    pub fn of(root: Node) -> Self {
        Self { root, boot_cpu: 0 }
    }

    /// Writes a blob.
    ///
    /// # Errors
    ///
    /// A name or property that the format has no room for.
    pub fn write(&self) -> Result<Vec<u8>, vm_fdt::Error> {
        let mut writer = FdtWriter::new()?;
        writer.set_boot_cpuid_phys(self.boot_cpu);
        write_node(&mut writer, &self.root)?;
        writer.finish()
    }
}

fn write_node(writer: &mut FdtWriter, node: &Node) -> Result<(), vm_fdt::Error> {
    let open = writer.begin_node(&node.name)?;
    for (name, bytes) in &node.properties {
        writer.property(name, bytes)?;
    }
    for child in &node.children {
        write_node(writer, child)?;
    }
    writer.end_node(open)
}

/// Deeper than any real tree.
const DEEPEST: usize = 64;

struct Reader<'a> {
    rest: &'a [u8],
    strings: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Malformed> {
        let padded = bytes.next_multiple_of(4);
        let (taken, rest) = self
            .rest
            .split_at_checked(padded)
            .ok_or(Malformed("cut off"))?;
        self.rest = rest;
        Ok(&taken[..bytes])
    }

    fn cell(&mut self) -> Result<u32, Malformed> {
        first_cell(self.take(4)?).ok_or(Malformed("cut off"))
    }

    fn token(&mut self) -> Result<u32, Malformed> {
        loop {
            let token = self.cell()?;
            if token != NOTHING {
                return Ok(token);
            }
        }
    }

    /// What stands behind BEGIN_NODE, up to and with END_NODE.
    fn node(&mut self, depth: usize) -> Result<Node, Malformed> {
        if depth > DEEPEST {
            return Err(Malformed("too deep"));
        }
        let name = text(self.rest)?;
        self.take(name.len() + 1)?;
        let mut node = Node::new(name);
        loop {
            match self.token()? {
                BEGIN_NODE => node.children.push(self.node(depth + 1)?),
                PROPERTY => {
                    let (length, name) = (self.cell()? as usize, self.cell()? as usize);
                    let bytes = self.take(length)?.to_vec();
                    let name = self
                        .strings
                        .get(name..)
                        .ok_or(Malformed("no such string"))?;
                    node.properties.push((text(name)?.to_owned(), bytes));
                }
                END_NODE => return Ok(node),
                _ => return Err(Malformed("an unknown token")),
            }
        }
    }
}

/// The text up to the first zero byte.
fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    let end = bytes.iter().position(|&byte| byte == 0);
    let bytes = &bytes[..end.ok_or(Malformed("a name without end"))?];
    std::str::from_utf8(bytes).map_err(|_| Malformed("a name that is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree {
        let inner = Node::new("b@1").with("empty", []).with("odd", *b"abc\0x");
        let mut root = Node::new("").with_cells("phandle", &[7]);
        root.children
            .push(Node::new("a").with_cells("phandle", &[9]));
        root.children[0].children.push(inner);
        root.children.push(Node::new("c@2"));
        Tree { root, boot_cpu: 3 }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let blob = tree().write().expect("writable");
        assert_eq!(Tree::read(&blob), Ok(tree()));
    }

    #[test]
    fn every_cut_is_an_error_and_no_panic() {
        let blob = tree().write().expect("writable");
        let structure = first_cell(&blob[4 * 2..]).expect("a header") as usize;
        assert!(Tree::read(&blob[..structure + 8]).is_err());
        for end in 0..blob.len() {
            // Cuts behind the structure may leave a readable tree.
            let _whole_or_not = Tree::read(&blob[..end]);
        }
        assert_eq!(Tree::read(&[0; 64]), Err(Malformed("no magic number")));
    }

    #[test]
    fn phandles_and_children_are_found_anywhere() {
        let mut tree = tree();
        assert_eq!(tree.root.largest_phandle(), 9);
        assert!(tree.root.child_mut("c").is_some());
        assert!(tree.root.child_mut("b").is_none());
    }
}
