//! What the bench of translations measures with: a guest's tables, baselines, a second thread.
//!
//! | module | what |
//! |---|---|
//! | [`world`] | stream table, contexts and page tables in guest memory, a software backend over them |
//! | `stages` | the same with both stages, for misses and their neighbours |
//! | [`mod@array`] | the least that a lookup can cost: one slot, one comparison |
//! | [`hash`] | a cache as a hash table behind a mutex, scanned to invalidate |
//! | [`chain`] | lookups of random numbers, each of which needs the one before or not |
//! | [`partner`] | a thread on the other core that does something while it is wanted |
//! | [`goals`] | rows of the table of goals |
//! | [`hits`], [`nested`], [`far`], [`guards`], [`threads`], [`invalidations`], [`syncs`] | what is measured |

pub mod array;
pub mod chain;
pub mod far;
pub mod goals;
pub mod guards;
pub mod hash;
pub mod hits;
pub mod invalidations;
pub mod nested;
pub mod partner;
mod stages;
pub mod syncs;
pub mod threads;
pub mod world;
