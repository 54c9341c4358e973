//! An allocator that counts what each thread asks for. A test program that includes this file uses it throughout.
//!
//! Counts are kept per thread, so that the test harness does not disturb them. AWS-LC's own `malloc` is not seen; its AEADs
//! work on the caller's memory and a context that is allocated with the key.

// `GlobalAlloc` is an unsafe trait; everything is handed on to the system's allocator as it came.
#![allow(unsafe_code)]
// Not every program that includes this file asks for both figures.
#![allow(dead_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    // Const and without a destructor, so that using them neither allocates nor fails while a thread ends.
    static CALLS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread has asked for memory.
pub(crate) fn calls() -> u64 {
    CALLS.get()
}

/// The bytes this thread has asked for and not given back.
pub(crate) fn bytes() -> isize {
    BYTES.get()
}

/// How often `work` asks for memory.
pub(crate) fn calls_of(work: impl FnOnce()) -> u64 {
    let before = calls();
    work();
    calls() - before
}

fn note(bytes: isize) {
    CALLS.set(CALLS.get() + 1);
    BYTES.set(BYTES.get() + bytes);
}

// SAFETY: every call is handed on to `System` with its arguments unchanged, so its guarantees are ours; the counters do not
// allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size().cast_signed());
        // SAFETY: the caller's promise about `layout` is the one that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get() - layout.size().cast_signed());
        // SAFETY: `at` came from `System` through this allocator, with the same layout.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: `at` came from `System` through this allocator, with the same layout.
        unsafe { System.realloc(at, layout, size) }
    }
}
