//! The translation cache.
