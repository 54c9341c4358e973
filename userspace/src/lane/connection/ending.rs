//! How a connection ends: the goodbyes of WebSocket, TLS and TCP, each with its time limit, and the letting go.
//!
//! What comes in is that we want to close, that the peer has ended its stream, or an error; what goes out are the last
//! words and, where all went well, the [`Outcome`].

use std::net::Shutdown;
use std::time::Duration;

use super::{BypassOutlet, Connection, KernelOutlet, Outcome, Transport};
use crate::floor::Time;
use crate::handover::FlowMap;
use crate::lane::Bypass;
use crate::message::CloseCode;
use crate::path::{Error, Lost, Status};
use crate::ring::Ring;
use crate::segment::TcpState;

/// How long the peer may take to answer our close frame, and then to close TCP.
///
/// 2 s and 1 s: several round trips to anywhere. A program that was told to stop should not take longer.
const CLOSING: Duration = Duration::from_secs(2);
const SHUTTING: Duration = Duration::from_secs(1);

/// How far a connection has come with ending.
pub(super) enum Ending {
    Not,
    /// Our close frame is out.
    Closing {
        until: Time,
    },
    /// Our FIN is out.
    Shutting {
        until: Time,
    },
}

impl Connection {
    /// Begins to close the connection in good order; turns then see to the rest.
    pub fn close(&mut self, now: Time, code: CloseCode, reason: &str) {
        if self.is_ending() {
            return;
        }
        if let Err(error) = self.path.close(code, reason) {
            log::debug!("{}: no close frame could be sent: {error}", self.tuple);
        }
        // Where there is no WebSocket yet, there is nothing to wait for.
        let patience = if self.path.status() == Status::Closing { CLOSING } else { Duration::ZERO };
        self.ending = Ending::Closing { until: now + patience };
    }

    /// Whether we have begun to end the connection, even where the WebSocket was not open yet and no close frame could be
    /// sent.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        !matches!(self.ending, Ending::Not)
    }

    /// The end of a connection, step by step; `ended` says that the peer's stream has ended.
    #[inline]
    pub(super) fn end<R: Ring, F: FlowMap>(
        &mut self,
        now: Time,
        ended: bool,
        bypass: &mut Option<Bypass<R, F>>,
    ) -> Result<(), Error> {
        if !self.was_open {
            self.was_open = self.path.was_open();
            if !self.was_open && now >= self.open_by {
                return Err(Lost::Silent { waited: now.since(self.began), doing: self.doing() }.into());
            }
        }
        if self.path.take_stopped() {
            self.close(now, CloseCode::NORMAL, "");
        }
        let closed = self.path.is_closed();
        match self.ending {
            Ending::Not if closed => self.shut(now, bypass),
            Ending::Not if ended => self.path.on_eof()?,
            Ending::Closing { until } if closed || ended || now >= until => self.shut(now, bypass),
            Ending::Shutting { until } if ended || now >= until => {
                let (code, reason) = match self.path.status() {
                    Status::Closed(code, reason) => (code, reason),
                    _ => (None, String::new()),
                };
                self.outcome = Some(Outcome { code, reason });
                self.gone(bypass);
            }
            _ => {}
        }
        Ok(())
    }

    /// What a connection that is not open yet is waiting for.
    fn doing(&self) -> &'static str {
        match (&self.transport, self.path.status()) {
            (Transport::Bypass(bypassed), _) if bypassed.tcp.state() == TcpState::Connecting => "after our SYN",
            (_, Status::Handshake) => "during the TLS handshake",
            _ => "during the WebSocket upgrade",
        }
    }

    /// Says the last words of TLS and TCP.
    fn shut<R: Ring, F: FlowMap>(&mut self, now: Time, bypass: &mut Option<Bypass<R, F>>) {
        self.path.shut();
        self.flush_and_finish(now, bypass);
        self.ending = Ending::Shutting { until: now + SHUTTING };
    }

    fn flush_and_finish<R: Ring, F: FlowMap>(&mut self, now: Time, bypass: &mut Option<Bypass<R, F>>) {
        match (&mut self.transport, bypass) {
            (Transport::Kernel(stream) | Transport::Leaving { stream: Some(stream), .. }, _) => {
                self.path.flush(&mut KernelOutlet { stream, held: false });
                // The peer may have been faster; then there is nothing left to shut.
                let _ = stream.shutdown(Shutdown::Write);
            }
            (Transport::Bypass(bypassed), Some(Bypass { ring, .. })) => {
                let tcp = &mut bypassed.tcp;
                self.path.flush(&mut BypassOutlet { tcp, ring, now, held: false });
                tcp.close(now, ring);
            }
            _ => {}
        }
    }

    /// Ends the connection where `result` is an error, telling the peer why as far as that is possible.
    #[inline]
    pub(super) fn judge<T, R: Ring, F: FlowMap>(
        &mut self,
        now: Time,
        result: Result<T, Error>,
        bypass: &mut Option<Bypass<R, F>>,
    ) -> Result<T, Error> {
        if let Err(error) = &result {
            self.path.farewell(error);
            self.flush_and_finish(now, bypass);
            self.gone(bypass);
        }
        result
    }

    /// Lets go of everything that carried the connection.
    pub(in crate::lane) fn gone<R: Ring, F: FlowMap>(&mut self, bypass: &mut Option<Bypass<R, F>>) {
        let transport = std::mem::replace(&mut self.transport, Transport::Gone);
        let Some(Bypass { ring, flows, .. }) = bypass else { return };
        match transport {
            Transport::Leaving { mut promotion, .. } => promotion.abandon(ring, flows),
            Transport::Bypass(bypassed) => {
                // The frame that was held for what would be sent next.
                if let Some(slot) = self.path.give_slot_up() {
                    ring.cancel(slot.into_frame().0);
                }
                self.past_tcp += bypassed.tcp.counters();
                if let Err(error) = flows.remove(&self.tuple) {
                    log::error!("{}: cannot be taken out of the flow map: {error}", self.tuple);
                }
            }
            Transport::Kernel(_) | Transport::Gone => {}
        }
    }
}
