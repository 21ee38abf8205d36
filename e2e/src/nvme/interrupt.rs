//! How the controller interrupts: the level of INTx, or messages that it writes as a device does.

use std::fs::File;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the host has set up.
#[derive(Debug, Default)]
struct State {
    /// A completion queue has something.
    level: bool,
    /// The host has been told and has not unmasked since.
    masked: bool,
    event: Option<File>,
    messages: Option<Messages>,
}

/// The MSI capability as the driver has set it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Messages {
    pub(super) address: u64,
    pub(super) data: u16,
    /// Vectors, a power of two.
    pub(super) count: u16,
}

impl Messages {
    /// The message of a vector.
    pub(super) fn of(&self, vector: u16) -> (u64, u32) {
        let mask = self.count - 1;
        (self.address, u32::from(self.data & !mask | vector & mask))
    }
}

/// The interrupt of the function.
#[derive(Debug, Default)]
pub(super) struct Interrupt(Mutex<State>);

impl Interrupt {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where INTx is signalled, or nowhere.
    pub(super) fn set_event(&self, event: Option<File>) {
        let mut state = self.state();
        state.event = event;
        state.masked = false;
        signal(&mut state);
    }

    /// The host wants to hear of the level again; it looks at it anew.
    pub(super) fn unmask(&self) {
        let mut state = self.state();
        state.masked = false;
        signal(&mut state);
    }

    pub(super) fn mask(&self) {
        self.state().masked = true;
    }

    /// Whether a completion queue has something.
    pub(super) fn set_level(&self, level: bool) {
        let mut state = self.state();
        state.level = level;
        signal(&mut state);
    }

    pub(super) fn set_messages(&self, messages: Option<Messages>) {
        self.state().messages = messages;
    }

    pub(super) fn messages(&self) -> Option<Messages> {
        self.state().messages
    }
}

/// Tells the host once for each time that it unmasks.
fn signal(state: &mut State) {
    if !state.level || state.masked || state.messages.is_some() {
        return;
    }
    if let Some(event) = &mut state.event {
        // A full counter has been signalled already.
        let _signalled = event.write(&1u64.to_ne_bytes());
        state.masked = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    /// An event that counts what it is told in bytes of a file.
    fn event() -> (Interrupt, File) {
        let file = tempfile::tempfile().expect("a file");
        let interrupt = Interrupt::default();
        interrupt.set_event(Some(file.try_clone().expect("a second handle")));
        (interrupt, file)
    }

    fn signals(file: &mut File) -> usize {
        use std::io::Seek;
        file.rewind().expect("a file");
        let mut all = Vec::new();
        file.read_to_end(&mut all).expect("a file");
        all.len() / 8
    }

    #[test]
    fn a_level_is_told_once_until_it_is_unmasked() {
        let (interrupt, mut file) = event();
        interrupt.set_level(true);
        interrupt.set_level(true);
        assert_eq!(signals(&mut file), 1);
        interrupt.unmask();
        assert_eq!(signals(&mut file), 2, "it is still there");
        interrupt.set_level(false);
        interrupt.unmask();
        assert_eq!(signals(&mut file), 2);
    }

    #[test]
    fn with_messages_the_line_is_quiet_and_low_bits_are_the_vector() {
        let (interrupt, mut file) = event();
        let messages = Messages {
            address: 0x1000,
            data: 0x56,
            count: 4,
        };
        interrupt.set_messages(Some(messages));
        interrupt.set_level(true);
        assert_eq!(signals(&mut file), 0);
        assert_eq!(messages.of(3), (0x1000, 0x57));
        assert_eq!(messages.of(5), (0x1000, 0x55));
    }
}
