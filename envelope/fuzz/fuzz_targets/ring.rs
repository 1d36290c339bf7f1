#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| seal_envelope_fuzz::ring(data));
