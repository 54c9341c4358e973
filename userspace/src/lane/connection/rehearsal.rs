//! Keeping a connection warm while nothing comes: a message that has come before, on the way it would come.

use super::{Connection, seed};
use crate::floor::{Hop, Span, Time};
use crate::frame;
use crate::handover::FlowMap;
use crate::lane::Bypass;
use crate::lane::transport::{BypassOutlet, Bypassed, KernelOutlet, Transport};
use crate::path::{Handler, Path, Source};
use crate::ring::Ring;
use crate::segment::{Arrival, Rehearsal};

impl Connection {
    /// Takes a message that has come before on the way from the frame, or the kernel's socket, to [`Handler::rehearse`]; answers
    /// whether it did. Nothing of it leaves.
    pub(in crate::lane) fn rehearse<R: Ring, F: FlowMap, H: Handler>(
        &mut self,
        now: Time,
        bypass: &mut Option<Bypass<R, F>>,
        handler: &mut H,
    ) -> bool {
        let Self { path, transport, staging, .. } = self;
        match (transport, bypass) {
            (Transport::Kernel(stream), _) => {
                let Some(bytes) = path.next_rehearsal() else { return false };
                let len = bytes.len();
                staging[..len].copy_from_slice(bytes);
                let outlet = &mut KernelOutlet { stream, held: true };
                let slot = path.rehearse(Span::new(staging, len), Source::Kernel, now, handler, outlet);
                debug_assert!(slot.is_none(), "a socket has no frames");
                true
            }
            (Transport::Bypass(bypassed), Some(Bypass { ring, hop, .. })) => {
                let Some(stream) = path.next_rehearsal() else { return false };
                let is_ready = bypassed.prepare_rehearsal(now, stream, (ring, hop));
                let done = is_ready && bypassed.rehearse(now, path, ring, handler);
                if !done {
                    path.give_rehearsals_up();
                }
                done
            }
            _ => false,
        }
    }
}

impl Bypassed {
    /// Has the peer's next frame made of `stream`; answers whether there is one.
    fn prepare_rehearsal<R: Ring>(&mut self, now: Time, stream: &[u8], (ring, hop): (&mut R, &Hop)) -> bool {
        if self.rehearsal.is_none() {
            self.rehearsal = Rehearsal::like(&self.tcp, hop, seed(), now).map(Box::new);
        }
        self.rehearsal.as_mut().is_some_and(|rehearsal| rehearsal.next(stream, now, ring))
    }

    /// Takes that frame as if it came from the ring; answers whether it was taken as expected.
    fn rehearse<R: Ring, H: Handler>(&mut self, now: Time, path: &mut Path, ring: &mut R, handler: &mut H) -> bool {
        let Some(rehearsal) = self.rehearsal.as_deref_mut() else { return false };
        let Ok(Some(segment)) = frame::parse(rehearsal.packet()) else { return false };
        let Rehearsal { tcp, frame, .. } = rehearsal;
        let Arrival::InOrder(payload) = tcp.arrive(now, frame, &segment, ring) else { return false };
        let span = Span::new(&mut frame[payload.start..], payload.len());
        let outlet = &mut BypassOutlet { tcp, ring, now, held: false };
        if let Some(slot) = path.rehearse(span, Source::Frame, now, handler, outlet) {
            ring.cancel(slot.into_frame().0);
        }
        tcp.settle(now, frame, &segment, ring);
        true
    }
}
