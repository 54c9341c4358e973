//! A peer outside of the guest that takes every TCP connection, and says nothing.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Failed, Lab};

/// Connections that are kept open; those before them have been looked at and reset.
const KEPT: usize = 64;

/// It listens as long as it lives.
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// At the outer end of the card's cable.
    pub(super) fn new(lab: &mut Lab<'_>) -> Result<Self, Failed> {
        let listener = lab.guest.outside().listen(lab.nic, false)?;
        let failed = |error: std::io::Error| Failed::Claim(format!("a listener that does not listen: {error}"));
        let address = listener.local_addr().map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        Ok(Self { address, over, thread: Some(thread::spawn(move || accept(&listener, &seen))) })
    }
}

fn accept(listener: &TcpListener, over: &AtomicBool) {
    let mut kept: Vec<TcpStream> = Vec::with_capacity(KEPT);
    while !over.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                if kept.len() == KEPT {
                    kept.remove(0);
                }
                kept.push(stream);
            }
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
