//! Coalescing against a model that removes exactly what the architecture demands (law 7).
//!
//! | file | what |
//! |---|---|
//! | `model.rs` | what could be cached, and which request removes it |
//! | `drive.rs` | a window of requests through the coalescer, as the first pass hands them over |
//! | `random.rs` | random requests and cached entries |
//! | `props.rs` | properties of random windows |
//! | `by_hand.rs` | rules that have a name |

mod by_hand;
mod drive;
mod model;
mod props;
mod random;
