//! The target `pri` as a program for libFuzzer.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    vcmdq_fuzz::pri::run(input);
});
