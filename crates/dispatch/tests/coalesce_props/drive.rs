//! A window of requests through the coalescer.

use dispatch::coalesce::Coalescer;
use dispatch::{BackendCapabilities, Batch, Invalidation, Scope, Stage};
use smmu_core::decode::SinglePage;
use smmu_core::range::{Granule, TlbiRange};

/// As the first pass hands requests over: single pages on a way of their own, and what continues the
/// last one by a page is not looked at again.
#[derive(Default)]
pub(crate) struct FirstPass {
    continued_by: Option<Invalidation>,
}

impl FirstPass {
    pub(crate) fn push(&mut self, coalescer: &mut Coalescer, request: Invalidation, origin: u32) {
        let next = |request| {
            let addr = single_page(&request)?.addr.checked_add(4096)?;
            let Scope::Addresses { asid, range } = request.scope else {
                return None;
            };
            let range = TlbiRange { addr, ..range };
            let scope = Scope::Addresses { asid, range };
            Some(Invalidation { scope, ..request })
        };
        if self.continued_by == Some(request) {
            coalescer.extend(4096);
            self.continued_by = next(request);
        } else if let Some(page) = single_page(&request) {
            let continues = coalescer.push_page(&page, origin);
            self.continued_by = next(request).filter(|_| continues);
        } else {
            coalescer.push(request, origin);
            self.continued_by = None;
        }
    }
}

fn single_page(request: &Invalidation) -> Option<SinglePage> {
    let Scope::Addresses { asid, range } = request.scope else {
        return None;
    };
    let page = range.granule == Some(Granule::K4) && range.bytes == 4096 && range.ttl != 0;
    (page && request.stage == Stage::One).then_some(SinglePage {
        vmid: request.vmid,
        asid: asid?,
        addr: range.addr,
        ttl: range.ttl,
        leaf: range.leaf,
    })
}

pub(crate) fn coalesced(
    requests: &[Invalidation],
    capabilities: &BackendCapabilities,
) -> Vec<Invalidation> {
    let mut coalescer = Coalescer::new(capabilities);
    let mut pass = FirstPass::default();
    for (origin, request) in requests.iter().enumerate() {
        pass.push(&mut coalescer, *request, origin as u32);
    }
    coalescer.finish();
    let (mut batch, mut all) = (Batch::new(), Vec::new());
    while coalescer.next_batch(&mut batch) {
        assert!(
            batch.requests().all(|r| r.vmid == batch.vmid()),
            "one VMID each"
        );
        all.extend(batch.requests());
    }
    all
}

pub(crate) fn capabilities(ranges: bool, widen_above: u64) -> BackendCapabilities {
    BackendCapabilities {
        ranges,
        widen_above,
        ..BackendCapabilities::default()
    }
}
