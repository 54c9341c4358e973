//! How a connection goes back from the ring to the kernel, and what is left of it in the ring then.
//!
//! What comes in is the request; what goes out is a connection over a kernel socket. While it waits for the right moment,
//! the connection goes on receiving, and holds back what it has to send.

use std::time::Duration;

use super::{Bypassed, Connection, Transport};
use crate::floor::{FourTuple, Time};
use crate::handover::{self, DemoteError, Demotion, FlowMap};
use crate::lane::Bypass;
use crate::path::{Error, Handler, Lost};
use crate::ring::Ring;
use crate::segment::{Lifted, WINDOW_BYTES};

/// How long to wait for a better moment: until holes in the peer's stream are filled, and the peer has acknowledged
/// everything.
///
/// 500 ms: the peer's retransmission timeout (Linux: 200 ms at least), and another one. After that the kernel is given what
/// there is: the peer then has to send again what lay behind the holes, and the kernel what is not acknowledged.
const PATIENCE: Duration = Duration::from_millis(500);

/// A request to go home, and what became of earlier ones.
#[derive(Debug, Default)]
pub(super) struct Homecoming {
    request: Option<Request>,
    /// Done, but no turn of the kernel's has been taken yet.
    fresh: Option<(Time, usize)>,
    result: Option<Result<Demotion, DemoteError>>,
    pub(super) demotions: Vec<Demotion>,
    pub(super) frames_passed: u64,
}

#[derive(Clone, Copy, Debug)]
struct Request {
    made: Time,
    until: Time,
}

impl Homecoming {
    /// Whether the connection is to go home.
    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        self.request.is_some()
    }

    /// When to try again: what is waited for comes as a frame, or not at all.
    pub(super) fn next_try(&self) -> Time {
        self.request.map_or(Time::NEVER, |request| request.until)
    }

    /// The first turn with the kernel.
    #[inline]
    pub(super) fn arrived(&mut self, now: Time) {
        if let Some((made, unacknowledged_bytes)) = self.fresh.take() {
            let demotion = Demotion { took: now.since(made), unacknowledged_bytes };
            self.demotions.push(demotion);
            self.result = Some(Ok(demotion));
        }
    }

    pub(super) fn take_result(&mut self) -> Option<Result<Demotion, DemoteError>> {
        self.result.take()
    }

    /// Passes a frame on to the kernel that was meant for its socket.
    pub(super) fn pass<F: FlowMap>(&mut self, tuple: &FourTuple, frame: &[u8], flows: &mut F) {
        match handover::pass(flows, frame) {
            Ok(()) => self.frames_passed += 1,
            // Nobody has acknowledged it: the peer sends it again.
            Err(error) => log::debug!("{tuple}: a frame cannot be passed on to the kernel: {error}"),
        }
    }
}

impl Connection {
    /// Asks the connection to go home to the kernel. Turns do the rest; how that ends, [`Connection::take_demotion`] tells.
    pub(in crate::lane) fn demote(&mut self, now: Time) {
        if self.homecoming.request.is_none() {
            self.homecoming.request = Some(Request { made: now, until: now + PATIENCE });
        }
    }

    /// Goes home, if this is the moment.
    pub(super) fn come_home<R: Ring, F: FlowMap, H: Handler>(
        &mut self,
        now: Time,
        bypass: &mut Bypass<R, F>,
        handler: &mut H,
    ) -> Result<(), Error> {
        let Some(request) = self.homecoming.request else { return Ok(()) };
        if self.is_ending() {
            self.refuse(DemoteError::Closing("we have said so"));
            return Ok(());
        }
        let Bypass { ring, flows, .. } = bypass;
        // What was held for the next message goes the other way.
        if let Some(slot) = self.path.give_slot_up() {
            ring.cancel(slot.into_frame().0);
        }
        let Transport::Bypass(bypassed) = &mut self.transport else { return Ok(()) };
        if now < request.until && (bypassed.tcp.has_hole() || !bypassed.tcp.is_drained()) {
            return Ok(());
        }
        // The last moment for what came through the kernel after the promotion: its socket is closed next.
        if bypassed.look_at_seam(now, true, ring).map_err(Lost::Socket)? {
            self.refuse(DemoteError::Closing("the peer has said so to the kernel"));
            return Ok(());
        }
        self.read_reassembled(now, ring, handler)?;

        let Transport::Bypass(bypassed) = &mut self.transport else { return Ok(()) };
        let Lifted { lease, unacknowledged, unsent } = match bypassed.tcp.lift() {
            Ok(lifted) => lifted,
            Err(why) => {
                self.refuse(DemoteError::Closing(why));
                return Ok(());
            }
        };
        let Bypassed { tcp, place, vlan, .. } = &mut **bypassed;
        let window = usize::try_from(lease.rcv_edge.distance(lease.rcv_nxt)).unwrap_or(0).max(WINDOW_BYTES);
        match handover::demote(&lease, &unacknowledged, window, place.take(), now, flows, *vlan) {
            Ok(stream) => {
                self.past_tcp += tcp.counters();
                self.transport = Transport::Kernel(stream);
                self.homecoming.request = None;
                self.path.put_back(&unsent);
                self.homecoming.fresh = Some((request.made, unacknowledged.len()));
            }
            Err((error, kept)) => {
                *place = kept;
                self.refuse(error);
            }
        }
        Ok(())
    }

    /// The connection stays where it is.
    fn refuse(&mut self, error: DemoteError) {
        self.homecoming.request = None;
        self.homecoming.result = Some(Err(error));
    }
}
