//! Frames that reached the ring although their flow is the kernel's.

use std::io;

use super::FlowMap;
use crate::frame::{parse, split};

/// The largest frame that the kernel takes back, in bytes.
///
/// A frame that is run "live" lies in one page together with its headroom and the kernel's notes (`bpf_prog_test_run_xdp` in
/// `net/bpf/test_run.c`): 3,408 bytes of 4,096 are left on x86-64 with Linux 6.18. 3,000, because the notes are not the same
/// everywhere. Lower only makes more pieces of it; higher, and the frame is refused, so that the peer has to send it again.
const LIVE_BYTES_MAX: usize = 3_000;

/// Passes a frame of one of our flows on to the kernel, in pieces where it is large.
///
/// # Errors
///
/// What the kernel answered. What is lost then was acknowledged by nobody: the peer sends it again.
pub(crate) fn pass(flows: &mut dyn FlowMap, frame: &[u8]) -> io::Result<()> {
    if frame.len() <= LIVE_BYTES_MAX {
        return flows.pass(frame);
    }
    match parse(frame) {
        Ok(Some(segment)) => split(frame, &segment, LIVE_BYTES_MAX).iter().try_for_each(|piece| flows.pass(piece)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
