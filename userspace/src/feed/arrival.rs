//! On which queue the frames of a new connection arrive: shown by frames, before anything is built on it.
//!
//! For a moment the flow is entered in the XDP program's map, and the peer is made to acknowledge once. The program notes for each flow
//! where its last frame came in; what it sent to the ring meanwhile is passed on to the kernel afterwards. The
//! connection does not notice. It must be one on which the peer says nothing by itself yet.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use super::Error;
use super::bypass::KernelBypass;
use crate::control::dial::Dialled;
use crate::control::steering::Steering;
use crate::floor::FourTuple;
use crate::handover::{self, FlowMap as _};
use crate::ring::Ring as _;

/// How long to wait for an answer, beyond two round trips. The next question has to wait half a second in any case: Linux leaves
/// those that come sooner unanswered.
const ANSWER: Duration = Duration::from_millis(600);
/// How often to ask.
const QUESTIONS: u32 = 2;
/// How often to look at the counters: each look is a few system calls.
const LOOK: Duration = Duration::from_micros(200);
/// How long to go on passing frames after the flow has left the map: a run of the program that had found it may still redirect one.
const REST: Duration = Duration::from_millis(1);

/// The queue on which the peer's answer arrives; `None` where none comes.
pub(super) fn queue_of(stream: &TcpStream, tuple: &FourTuple, bypass: &mut KernelBypass) -> Result<Option<u32>, Error> {
    let vlan = bypass.hop.vlan;
    let round_trip = Duration::from_micros(handover::round_trip_us(stream).map_err(Error::System)?.into());
    bypass.flows.insert(tuple, vlan).map_err(Error::System)?;
    let found = ask(stream, tuple, bypass, 2 * round_trip + ANSWER);
    bypass.flows.remove(tuple).map_err(Error::System)?;
    thread::sleep(REST);
    // Not before: the program runs over what is passed, and would count it too.
    pass(bypass);
    found
}

fn ask(stream: &TcpStream, tuple: &FourTuple, bypass: &mut KernelBypass, wait: Duration) -> Result<Option<u32>, Error> {
    for _ in 0..QUESTIONS {
        handover::provoke(stream).map_err(Error::System)?;
        let asked = Instant::now();
        while asked.elapsed() < wait {
            // A driver that waits to be woken up is.
            let _ = bypass.ring.flush();
            if let Some(seen) = bypass.flows.seen(tuple).filter(|seen| seen.frames != 0) {
                return Ok(Some(seen.last_queue));
            }
            thread::sleep(LOOK);
        }
    }
    Ok(None)
}

/// Gives the kernel what the ring has got.
fn pass(bypass: &mut KernelBypass) {
    let mut frames = Vec::new();
    bypass.ring.receive(&mut frames, usize::MAX);
    for frame in frames {
        if let Err(error) = bypass.flows.pass(frame.packet()) {
            // An acknowledgement of nothing new.
            log::debug!("a frame is lost: {error}");
        }
        bypass.ring.recycle(frame);
    }
    // What cannot be handed back now is handed back with the first turn.
    let _ = bypass.ring.flush();
}

/// Shows where the frames of a connection arrive that was just made. Where it is not `queue`, and steering has something else to try,
/// another one is made in its place.
///
/// # Errors
///
/// What was asked for by name does not work; the connection cannot be made anew.
pub(super) fn prove(
    mut dialled: Dialled,
    queue: u32,
    bypass: &mut KernelBypass,
    steering: &Steering,
    redial: impl Fn() -> Result<Dialled, Error>,
) -> Result<Dialled, Error> {
    loop {
        if dialled.steered.means().is_none() {
            return Ok(dialled);
        }
        let tuple = dialled.tuple().map_err(Error::System)?;
        // What goes wrong here is no reason to have no connection: the promotion will tell.
        let seen = queue_of(&dialled.stream, &tuple, bypass).unwrap_or_else(|error| {
            log::warn!("{tuple}: on which queue its frames arrive cannot be looked at: {error}");
            None
        });
        match seen {
            Some(seen) if seen == queue => {
                steering.confirmed(&mut dialled.steered);
                return Ok(dialled);
            }
            Some(seen) => {
                if !steering.contradicted(&mut dialled.steered, &tuple, seen)? {
                    return Ok(dialled);
                }
                // Closed first: the port is free again, and its rule gone.
                drop(dialled);
                dialled = redial()?;
            }
            None => {
                log::debug!("{tuple}: nothing tells yet on which queue its frames arrive");
                return Ok(dialled);
            }
        }
    }
}
