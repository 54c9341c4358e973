//! The flows that the XDP program redirects: entered and taken out, and what it has seen of each.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::maps::{HashMap, Map, MapData};
use wiretick_xdp::{FLOWS, FlowKey, FlowQueues, FlowSeen};

use super::Error;
use crate::floor::FourTuple;

/// Flows that were taken out and are still remembered: those that failed to be promoted are asked about afterwards.
const REMEMBERED: usize = 64;

type Entries = HashMap<MapData, [u8; FlowKey::LEN], [u8; FlowSeen::LEN]>;

/// The flows of one feed, in a map that several may share. Dropping it takes them out.
pub struct Flows {
    entries: Entries,
    /// For another handle.
    descriptor: OwnedFd,
    /// Where the feed has sockets.
    queues: FlowQueues,
    entered: Vec<(FourTuple, FlowKey)>,
    /// What was seen of those that were taken out, youngest last.
    left: VecDeque<(FourTuple, FlowSeen)>,
}

impl fmt::Debug for Flows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flows").field("entered", &self.entered).finish_non_exhaustive()
    }
}

impl Flows {
    /// For a feed with sockets on these queues.
    pub(super) fn new(map: MapData, queues: FlowQueues) -> Result<Self, Error> {
        let descriptor = map.fd().as_fd().try_clone_to_owned().map_err(|error| unusable(&error))?;
        Ok(Self { entries: entries(map)?, descriptor, queues, entered: Vec::new(), left: VecDeque::new() })
    }

    /// Enters a flow, of which nothing has been seen then.
    pub(super) fn insert(&mut self, tuple: &FourTuple, vlan: Option<u16>) -> io::Result<()> {
        let key = FlowKey::new(tuple.local, tuple.remote, vlan)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.entries.insert(key.to_bytes(), self.queues.to_bytes(), 0).map_err(io::Error::other)?;
        self.left.retain(|(other, _)| other != tuple);
        self.entered.push((*tuple, key));
        Ok(())
    }

    /// Takes a flow out. What was seen of it is remembered for a while.
    pub(super) fn remove(&mut self, tuple: &FourTuple) -> io::Result<()> {
        let at = self.entered.iter().position(|(other, _)| other == tuple);
        let (_, key) = self.entered.swap_remove(at.ok_or(io::ErrorKind::NotFound)?);
        if let Some(seen) = read(&self.entries, &key) {
            if self.left.len() == REMEMBERED {
                self.left.pop_front();
            }
            self.left.push_back((*tuple, seen));
        }
        self.entries.remove(&key.to_bytes()).map_err(io::Error::other)
    }

    /// What the program has seen of a flow since it was entered: also of one that has been taken out, until others have taken its
    /// place in memory.
    #[must_use]
    pub fn seen(&self, tuple: &FourTuple) -> Option<FlowSeen> {
        match self.entered.iter().find(|(other, _)| other == tuple) {
            Some((_, key)) => read(&self.entries, key),
            None => self.left.iter().rev().find(|(other, _)| other == tuple).map(|(_, seen)| *seen),
        }
    }

    /// A handle, for another thread, that looks at the flows that are entered now.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn sightings(&self) -> Result<Sightings, Error> {
        let descriptor = self.descriptor.try_clone().map_err(|error| unusable(&error))?;
        let entries = entries(MapData::from_fd(descriptor).map_err(|error| unusable(&error))?)?;
        Ok(Sightings { entries, keys: self.entered.iter().map(|(_, key)| *key).collect() })
    }
}

/// The map may live on with the flows of other feeds.
impl Drop for Flows {
    fn drop(&mut self) {
        for (_, key) in self.entered.drain(..) {
            let _ = self.entries.remove(&key.to_bytes());
        }
    }
}

/// What the program sees of some flows.
pub struct Sightings {
    entries: Entries,
    keys: Vec<FlowKey>,
}

impl fmt::Debug for Sightings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sightings").field("keys", &self.keys).finish_non_exhaustive()
    }
}

impl Sightings {
    /// What was seen of each flow, always in the same order; of one that has been taken out, nothing. A system call each.
    pub(crate) fn look(&self) -> Vec<FlowSeen> {
        self.keys.iter().map(|key| read(&self.entries, key).unwrap_or_default()).collect()
    }
}

fn read(entries: &Entries, key: &FlowKey) -> Option<FlowSeen> {
    entries.get(key.as_bytes(), 0).ok().map(FlowSeen::from_bytes)
}

/// Checks that keys and values have the sizes that are meant here.
fn entries(map: MapData) -> Result<Entries, Error> {
    HashMap::try_from(Map::HashMap(map)).map_err(|error| unusable(&error))
}

fn unusable(reason: &dyn fmt::Display) -> Error {
    Error::Map { what: FLOWS, reason: reason.to_string() }
}
