//! What holds whatever the bytes: one function per fuzz target, which takes the fuzzer's input and panics where something
//! is wrong.
//!
//! The functions use wiretick as anybody could, through its public interface, and hold it against something that does not
//! share its code: another parser, a model, or the same bytes cut differently. The fuzz targets call them under coverage
//! guidance; `userspace/tests/fuzz_seeds.rs` calls them in `make test`, with the seeds and with changed ones.

mod bench;
pub mod event_decoders;
pub mod frame_walk;
pub mod handover;
pub mod http_answer;
mod pieces;
pub mod record_opener;
pub mod segment_guard;
pub mod websocket_decoder;

/// What a target calls: it panics where something is wrong.
pub type Check = fn(&[u8]);

/// Each target: its name, which is also that of its seeds' folder, and what it calls.
#[allow(dead_code, reason = "for whoever runs all of them")]
pub const TARGETS: [(&str, Check); 7] = [
    ("event_decoders", event_decoders::check),
    ("frame_walk", frame_walk::check),
    ("handover", handover::check),
    ("http_answer", http_answer::check),
    ("record_opener", record_opener::check),
    ("segment_guard", segment_guard::check),
    ("websocket_decoder", websocket_decoder::check),
];
