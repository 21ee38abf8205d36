//! What the guest asks of the host.

use super::recording::Recording;
use super::waited::Waited;
use crate::nvme::{Controller, Dma};
use crate::vehicle::Smmu;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::Arc;

/// The most bytes of a checksum.
const LARGEST: usize = 64 << 20;

/// Until its VCMDQs are there, Linux invalidates through the SMMU's own queue: one for at least so many
/// that come later through VCMDQs.
const OWN_SHARE: u64 = 20;

/// What is needed to answer.
pub(super) struct Answers<'a> {
    pub(super) controller: Arc<Controller>,
    /// A way to memory as the device's.
    pub(super) dma: Box<dyn Dma>,
    /// The SMMU, if there is one.
    pub(super) smmu: Option<&'a Smmu>,
    /// The recording to be made.
    pub(super) recording: Option<Recording>,
    /// How long the engine's worker had to wait for a processor, where that matters.
    pub(super) worker: Option<Waited>,
}

impl Answers<'_> {
    /// The answer to a question, which is one line. `None` if it is not understood.
    pub(super) fn answer(&mut self, question: &[String]) -> Option<String> {
        let words: Vec<&str> = question.iter().map(String::as_str).collect();
        match words[..] {
            ["sum", offset, bytes, want] => {
                let (offset, bytes) = (offset.parse().ok()?, bytes.parse().ok()?);
                Some(self.compare(offset, bytes, want))
            }
            ["use-after-unmap"] => Some(self.use_after_unmap()),
            ["corrupt-prefetch"] => {
                self.smmu?.corruption().arm();
                Some("armed".into())
            }
            ["record", kernel] => Some(self.recording.as_mut()?.begin(self.smmu?, kernel)),
            ["recorded"] => Some(self.recording.as_mut()?.end()),
            ["worker"] => Some(self.worker.as_mut().map_or("-".into(), Waited::share)),
            ["corrupted"] => Some(self.smmu?.corruption().done().to_string()),
            ["queues", cpus] => Some(queues(self.smmu?, cpus.parse().ok()?)),
            _ => None,
        }
    }

    /// The guest has found its disk: from now on the engine may be broken on purpose.
    pub(super) fn disk_is_there(&self) {
        if let Some(smmu) = self.smmu {
            smmu.dropping().arm();
        }
    }

    /// Whether what lies in the backing file has the checksum that the guest saw.
    fn compare(&self, offset: u64, bytes: usize, want: &str) -> String {
        match self.controller.disk().contents(offset, bytes.min(LARGEST)) {
            Ok(contents) => {
                let have = hex(&Sha256::digest(contents));
                match have == want {
                    true => "same".into(),
                    false => format!("different {have}"),
                }
            }
            Err(error) => format!("unreadable {error}"),
        }
    }

    /// Uses the addresses of transfers that are over, as a broken device does.
    fn use_after_unmap(&mut self) -> String {
        let pages = self.controller.disk().recent();
        let mut word = [0; 8];
        let reached = pages
            .iter()
            .filter(|&&page| self.dma.read(page, &mut word).is_ok())
            .count();
        match (pages.len(), reached) {
            (0, _) => "nothing was transferred".into(),
            (all, 0) => format!("faulted {all} of {all}"),
            (all, reached) => format!("reached {reached} of {all}"),
        }
    }
}

/// Whether commands went the way that Linux sends them: invalidations through the VCMDQs, of which
/// one for each CPU had some, and what concerns configuration through the SMMU's own queue.
fn queues(smmu: &Smmu, cpus: usize) -> String {
    let (own, queues) = smmu.rings();
    let each: Vec<_> = queues.iter().map(|queue| queue.invalidations).collect();
    let stray: u64 = queues.iter().map(|queue| queue.effects).sum();
    let busy = each.iter().filter(|&&count| count > 0).count();
    let used = busy > 0 && busy == cpus.min(each.len()) && stray == 0;
    let (effects, invalidations) = (own.effects, own.invalidations);
    let rest = effects > 0 && invalidations * OWN_SHARE <= each.iter().sum();
    let verdict = if used && rest {
        "as Linux does"
    } else {
        "other"
    };
    format!(
        "{verdict}: VCMDQs {each:?} invalidations, {stray} others; \
         own queue {invalidations} invalidations, {effects} others"
    )
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _a_string_takes_all = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nvme::{BLOCK, Disk, Flat};
    use crate::vehicle::Ram;

    fn answers() -> Answers<'static> {
        let file = tempfile::tempfile().expect("a file");
        file.set_len(8 * BLOCK).expect("a file");
        let ram = Ram::new(2).expect("two MiB");
        Answers {
            controller: Controller::new(Disk::new(file).expect("a file")),
            dma: Box::new(Flat(ram.memory().clone())),
            smmu: None,
            recording: None,
            worker: None,
        }
    }

    fn ask(question: &str) -> Option<String> {
        let words: Vec<_> = question.split(' ').map(str::to_owned).collect();
        answers().answer(&words)
    }

    #[test]
    fn checksums_are_compared_with_the_file() {
        // sha256 of 512 zero bytes.
        let zeros = "076a27c79e5ace2a3d47f9dd2e83e4ff6ea8872b3c2218f66c92b89b55f36560";
        assert_eq!(ask(&format!("sum 0 512 {zeros}")).as_deref(), Some("same"));
        let other = ask("sum 0 512 00").expect("an answer");
        assert!(other.starts_with("different 076a"), "{other}");
        let beyond = ask("sum 8192 512 00").expect("an answer");
        assert!(beyond.starts_with("unreadable"), "{beyond}");
    }

    #[test]
    fn a_device_without_transfers_has_nothing_to_misuse() {
        let answer = ask("use-after-unmap");
        assert_eq!(answer.as_deref(), Some("nothing was transferred"));
    }

    #[test]
    fn what_is_not_understood_has_no_answer() {
        assert_eq!(ask("sum x 512 00"), None);
        assert_eq!(ask("hello"), None);
        assert_eq!(ask("corrupt-prefetch"), None, "there is no SMMU");
    }
}
