//! New connections, made beside the lane: names and handshakes take their time, and messages do not wait.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use super::Error;
use crate::control::dial::{self, DialOptions};
use crate::control::steering::Steering;
use crate::control::{self, Target, resolve};
use crate::floor::background;

/// A connected socket.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) socket: dial::Dialled,
    peer: SocketAddr,
    took: Duration,
}

/// Makes one connection at a time, and remembers which addresses answered how soon.
#[derive(Debug, Default)]
pub(super) struct Dialler {
    job: Option<Receiver<Result<Dialled, control::Error>>>,
    /// How long connecting to an address took the last time; `None` where it did not work.
    known: HashMap<SocketAddr, Option<Duration>>,
}

impl Dialler {
    pub(super) fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// Notes how an address has served so far.
    pub(super) fn note(&mut self, peer: SocketAddr, took: Option<Duration>) {
        self.known.insert(peer, took);
    }

    /// Begins to connect to the target: to none of `taken` if it has another address, to the fastest known first, to those
    /// that failed last.
    pub(super) fn start(
        &mut self,
        target: Target,
        options: DialOptions,
        steering: Option<Steering>,
        taken: Vec<SocketAddr>,
    ) -> Result<(), Error> {
        let (tell, told) = sync_channel(1);
        let known = self.known.clone();
        let dial = move || {
            let dialled = resolve::addresses(&target).and_then(|mut peers| {
                order(&mut peers, &known, &taken);
                connect(&peers, &options, steering.as_ref())
            });
            // Nobody waits any more where the feed is gone.
            let _ = tell.send(dialled);
        };
        background("dial", dial).map_err(Error::System)?;
        self.job = Some(told);
        Ok(())
    }

    /// The connection, once it is made or has failed.
    pub(super) fn done(&mut self) -> Option<Result<Dialled, control::Error>> {
        let result = match self.job.as_ref()?.try_recv() {
            Ok(result) => result,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => {
                let source = std::io::Error::other("the thread that connects has ended");
                Err(control::Error::Connect { peer: SocketAddr::from(([0, 0, 0, 0], 0)), source })
            }
        };
        self.job = None;
        match &result {
            Ok(dialled) => self.note(dialled.peer, Some(dialled.took)),
            Err(control::Error::Connect { peer, .. }) => self.note(*peer, None),
            Err(_) => {}
        }
        Some(result)
    }
}

/// Unused addresses first; among them those never tried in the order of the resolver, then the quick before the slow, and
/// last those that failed.
fn order(peers: &mut [SocketAddr], known: &HashMap<SocketAddr, Option<Duration>>, taken: &[SocketAddr]) {
    peers.sort_by_key(|peer| {
        let experience = match known.get(peer) {
            None => (0, Duration::ZERO),
            Some(Some(took)) => (0, *took),
            Some(None) => (1, Duration::ZERO),
        };
        (taken.contains(peer), experience)
    });
}

fn connect(
    peers: &[SocketAddr],
    options: &DialOptions,
    steering: Option<&Steering>,
) -> Result<Dialled, control::Error> {
    let deadline = Instant::now() + options.timeout;
    let mut failed = None;
    for (i, &peer) in peers.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = left / u32::try_from(peers.len() - i).unwrap_or(1);
        let began = Instant::now();
        match dial::connect_steered(&[peer], &DialOptions { timeout, ..options.clone() }, steering) {
            Ok(socket) => return Ok(Dialled { socket, peer, took: began.elapsed() }),
            Err(error) => failed = Some(error),
        }
    }
    Err(failed.unwrap_or_else(|| control::Error::Connect {
        peer: SocketAddr::from(([0, 0, 0, 0], 0)),
        source: std::io::Error::new(std::io::ErrorKind::NotFound, "no address to connect to"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_addresses_come_first_then_the_quick_ones_and_those_that_failed_last() {
        let peer = |n: u8| SocketAddr::from(([10, 0, 0, n], 443));
        let ms = |n| Some(Duration::from_millis(n));
        let known = HashMap::from([(peer(1), ms(9)), (peer(2), ms(3)), (peer(3), None), (peer(4), ms(1))]);
        let mut peers: Vec<_> = (1..=5).map(peer).collect();
        order(&mut peers, &known, &[peer(4)]);
        assert_eq!(peers, [5, 2, 1, 3, 4].map(peer));
    }
}
