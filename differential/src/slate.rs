//! The memory that both SMMUs read, written one world after the other.

use crate::world::{Words, World};
use anyhow::{Context, Result};
use vcmdq_e2e::vehicle::Ram;
use vm_memory::{Bytes, GuestAddress};

/// RAM, and what has been written there.
#[derive(Debug)]
pub struct Slate {
    /// The RAM.
    pub ram: Ram,
    written: Words,
}

impl Slate {
    /// Of RAM that holds zeros.
    #[must_use]
    pub fn new(ram: Ram) -> Self {
        let written = Words::new();
        Self { ram, written }
    }

    /// Stores 64 bits.
    ///
    /// # Errors
    ///
    /// There is no RAM.
    pub fn write(&self, at: u64, word: u64) -> Result<()> {
        let map = self.ram.memory().map();
        let written = map.write_obj(word.to_le(), GuestAddress(at));
        written.with_context(|| format!("{at:#x} is not RAM"))
    }

    /// Loads 64 bits.
    ///
    /// # Errors
    ///
    /// There is no RAM.
    pub fn read(&self, at: u64) -> Result<u64> {
        let map = self.ram.memory().map();
        let word: u64 = map
            .read_obj(GuestAddress(at))
            .with_context(|| format!("{at:#x} is not RAM"))?;
        Ok(u64::from_le(word))
    }

    /// Writes a world in the place of the one before.
    ///
    /// # Errors
    ///
    /// One of its words does not lie in RAM.
    pub fn enter(&mut self, world: &World) -> Result<()> {
        let gone = |at: &&u64| !world.words.contains_key(at);
        for &at in self.written.keys().filter(gone) {
            self.write(at, 0)?;
        }
        for (&at, &word) in &world.words {
            self.write(at, word)?;
        }
        self.written.clone_from(&world.words);
        Ok(())
    }

    /// Whether memory is still as [`enter`](Self::enter) made it.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn is_unspoilt(&self) -> Result<bool> {
        for (&at, &word) in &self.written {
            if self.read(at)? != word {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
