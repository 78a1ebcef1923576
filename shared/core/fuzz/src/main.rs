//! Fuzzes the webhook with libFuzzer (README, "Development").

#![no_main]

mod target;

libfuzzer_sys::fuzz_target!(|input: &[u8]| target::check(input));
