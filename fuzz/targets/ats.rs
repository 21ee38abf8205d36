//! The target `ats` as a program for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    vcmdq_fuzz::ats::run(input);
});
