//! What the benches share: streams of commands, an engine around one ring, the baseline, and
//! measurements that are repeated and interleaved.
//!
//! | module | what |
//! |---|---|
//! | [`streams`] | recorded and made-up command streams |
//! | [`rig`] | an engine without threads, its ring in vm-memory, its backend |
//! | [`plants`] | what an invalidation has to remove, put into the cache before |
//! | [`one_by_one`] | the same work command by command, each with a call to the backend of its own |
//! | [`baseline`] | the same synchronously, under a mutex |
//! | [`rounds`] | contenders in turn, medians over many rounds |
//! | [`ping_pong`] | round trips between two cores, one time each |
//! | [`engine_trip`] | the same through the engine, by a shared page or a doorbell |
//! | [`vcmdq_trip`] | the same through a VCMDQ's mapped page |
//! | [`trips`] | all of them side by side |
//! | [`group`] | one frame in front of several instances |
//! | [`drains`] | a full ring consumed, in every way that there is |
//! | [`translate`] | tables, baselines and threads for what is translated |
//! | [`quick`] | whether only to show that everything works |
//! | [`table`] | results for a person |
#![forbid(unsafe_code)]

pub mod backends;
pub mod baseline;
pub mod drains;
pub mod engine_trip;
pub mod group;
pub mod one_by_one;
pub mod ping_pong;
pub mod plants;
pub mod quick;
pub mod rig;
pub mod rounds;
pub mod streams;
pub mod table;
pub mod translate;
pub mod trips;
pub mod vcmdq_trip;

pub use quick::is_quick;
