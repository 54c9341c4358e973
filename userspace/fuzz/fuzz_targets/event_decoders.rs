#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| wiretick_fuzz::event_decoders::check(input));
