//! What the fuzz targets assert, without a fuzzer: over each target's seeds, and over thousands of changed ones.
//!
//! The seeds are in `userspace/fuzz/seeds`, one folder a target; an input that a fuzzer has once found something with
//! becomes one of them. The changes are the same in every run.

mod spoilt;

#[allow(unreachable_pub, reason = "it is a crate elsewhere")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use spoilt::{Numbers, spoil};

/// Changed inputs for each target.
const CASES: usize = 4000;
/// For the target each of whose inputs takes two TLS handshakes.
const CASES_RECORD_OPENER: usize = 600;

/// The seeds of a target, by name.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut seeds: Vec<_> = entries
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap())
        })
        .collect();
    seeds.sort();
    assert!(seeds.len() >= 3, "{} has hardly any seeds", folder.display());
    seeds
}

/// Runs the target, and says which input it was that it did not hold for.
fn run(check: fuzz::Check, name: &str, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| check(input))) {
        let hex: String = input.iter().map(|byte| format!("{byte:02x}")).collect();
        eprintln!("{name}: {hex}");
        std::panic::resume_unwind(panic);
    }
}

fn replay(target: &str, cases: usize) {
    let (_, check) = fuzz::TARGETS.into_iter().find(|(name, _)| *name == target).unwrap();
    let seeds = seeds(target);
    for (name, seed) in &seeds {
        run(check, name, seed);
    }
    let letters: Vec<u8> = (0..=u8::MAX).collect();
    let mut numbers = Numbers(7);
    for case in 0..cases {
        let (name, seed) = numbers.of(&seeds);
        let mut input = seed.clone();
        // Now and then a script goes on with another's steps.
        if numbers.below(4) == 0 {
            let (_, other) = numbers.of(&seeds);
            input.extend_from_slice(&other[numbers.below(other.len())..]);
        }
        for _ in 0..=numbers.below(4) {
            spoil(&mut input, &letters, &mut numbers);
        }
        run(check, &format!("case {case}, from {name}"), &input);
    }
}

#[test]
fn each_target_has_seeds_and_each_folder_of_seeds_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds");
    let mut folders: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    folders.sort();
    assert_eq!(folders, fuzz::TARGETS.map(|(name, _)| name));
}

#[test]
fn event_decoders() {
    replay("event_decoders", CASES);
}

#[test]
fn frame_walk() {
    replay("frame_walk", CASES);
}

#[test]
fn handover() {
    replay("handover", CASES);
}

#[test]
fn http_answer() {
    replay("http_answer", CASES);
}

#[test]
fn record_opener() {
    replay("record_opener", CASES_RECORD_OPENER);
}

#[test]
fn segment_guard() {
    replay("segment_guard", CASES);
}

#[test]
fn websocket_decoder() {
    replay("websocket_decoder", CASES);
}
