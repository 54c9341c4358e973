#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| wiretick_fuzz::websocket_decoder::check(input));
