//! Streams in front of a host: what devices are attached to, who comes and goes, what the host tells.

mod attach;
mod backend;
mod bind;
mod capabilities;
mod guest;
mod host;
mod law9_stage2;
mod no_memory;
mod plug;
mod random;
mod reopened;
mod told;
