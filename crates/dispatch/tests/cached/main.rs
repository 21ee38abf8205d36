//! The cached core, as device models use it, against an SMMU that is written to be obvious:
//! configuration and translations in plain lists, from which a command removes exactly what
//! the architecture demands (IHI 0070, 4.3 and 4.4).
//!
//! | file | what |
//! |---|---|
//! | `memory.rs` | guest memory, in which something can happen in the middle of a walk |
//! | `naive.rs` | the walker without caches, shared with the tests of `smmu-core` |
//! | `obvious.rs`, `obvious/` | what could be cached, as lists, and what a command removes of it |
//! | `world.rs` | tables, contexts and streams, and random changes of them |
//! | `second.rs` | the same of stage 2 |
//! | `commands.rs` | random commands |
//! | `rig.rs` | both SMMUs over one memory, step by step |
//! | `law7.rs` | random runs |
//! | `exact.rs` | by hand: what a command takes, and what it leaves |
//! | `stages.rs`, `stages/` | by hand: the same with a stage 2 of the guest's, and which stage a fault is of |
//! | `tables.rs` | by hand: tables that walks start from |
//! | `attributes.rs` | by hand: memory attributes of what is cached |
//! | `el2.rs` | by hand: contexts of EL2 |
//! | `updates.rs`, `updates_nested.rs` | access flags and dirty state: random runs, and by hand |
//! | `under_way.rs` | by hand: commands in the middle of an access |
//! | `peers.rs` | by hand: bugs that other emulations had |

mod attributes;
mod commands;
mod el2;
mod exact;
mod law7;
mod memory;
mod naive;
mod obvious;
mod peers;
mod rig;
mod second;
mod stages;
mod tables;
mod under_way;
mod updates;
mod updates_nested;
mod world;
