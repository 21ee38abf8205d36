//! vcmdq
