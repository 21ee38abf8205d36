//! What the benches share: streams of commands, an engine around one ring, the baseline, and
//! measurements that are repeated and interleaved.
//!
//! | module | what |
//! |---|---|
//! | [`streams`] | recorded and made-up command streams |
//! | [`rig`] | an engine without threads, its ring in vm-memory, its backend |
//! | [`plants`] | what an invalidation has to remove, put into the cache before |
//! | [`baseline`] | the same work done synchronously under a mutex, command by command |
//! | [`rounds`] | contenders in turn, medians over many rounds |
//! | [`ping_pong`] | round trips between two cores, one time each |
//! | [`vcmdq_trip`] | the same through a VCMDQ's mapped page |
//! | [`translate`] | tables, baselines and threads for what is translated |
//! | [`quick`] | whether only to show that everything works |
//! | [`table`] | results for a person |
#![forbid(unsafe_code)]

pub mod backends;
pub mod baseline;
pub mod ping_pong;
pub mod plants;
pub mod quick;
pub mod rig;
pub mod rounds;
pub mod streams;
pub mod table;
pub mod translate;
pub mod vcmdq_trip;

pub use quick::is_quick;
