//! Runs a model, or a twin that must fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vcmdq_sync::weak::{Site, weakened};

fn explore(preemptions: usize, body: impl Fn() + Send + Sync + 'static) -> usize {
    let iterations = Arc::new(AtomicUsize::new(0));
    let count = iterations.clone();
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 20_000;
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        body();
    });
    iterations.load(Ordering::Relaxed)
}

/// Explores a model up to `preemptions` and prints how many executions that were.
pub fn model(name: &str, preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let iterations = explore(preemptions, body);
    println!("{name}: {iterations} executions at preemption bound {preemptions}");
}

/// Explores the model with one place weakened and demands that it fails.
pub fn twin(name: &str, site: Site, preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let without = format!("{name} without {site:?}");
    let explored = catch_unwind(AssertUnwindSafe(|| {
        weakened(site, || explore(preemptions, body));
    }));
    demand_failure(&without, explored.is_err());
}

/// Explores a variant of a model that does something wrong and demands that it fails.
pub fn wrong(name: &str, preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let explored = catch_unwind(AssertUnwindSafe(|| explore(preemptions, body)));
    demand_failure(name, explored.is_err());
}

fn demand_failure(name: &str, failed: bool) {
    assert!(failed, "{name} passes: the model cannot see it");
    println!("{name}: found out, as it must be");
}
