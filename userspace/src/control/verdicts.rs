//! What the XDP program has decided, read from its counters.

use std::fmt;
use std::os::fd::{AsFd as _, OwnedFd};

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError, PerCpuArray};
use wiretick_xdp::{QUEUE_ROWS, Tally, VERDICTS, Verdict, slot};

use super::Error;

/// A handle on the program's counters.
pub struct Verdicts {
    map: PerCpuArray<MapData, u64>,
    /// For another handle.
    descriptor: OwnedFd,
}

impl fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verdicts").finish_non_exhaustive()
    }
}

impl Verdicts {
    /// Takes the counters of a program that was loaded.
    pub(super) fn of(program: &mut Ebpf) -> Result<Self, Error> {
        match program.take_map(VERDICTS) {
            // The very map: the program's instructions name its descriptor until it is loaded.
            Some(Map::PerCpuArray(map)) => Self::new(map),
            _ => Err(unreadable(&"the object holds no such array")),
        }
    }

    pub(super) fn new(map: MapData) -> Result<Self, Error> {
        let descriptor = map.fd().as_fd().try_clone_to_owned().map_err(|error| unreadable(&error))?;
        let map = PerCpuArray::try_from(Map::PerCpuArray(map)).map_err(|error| unreadable(&error))?;
        Ok(Self { map, descriptor })
    }

    /// Another handle, for another thread.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn try_clone(&self) -> Result<Self, Error> {
        let descriptor = self.descriptor.try_clone().map_err(|error| unreadable(&error))?;
        Self::new(MapData::from_fd(descriptor).map_err(|error| unreadable(&error))?)
    }

    /// The decisions about the frames of each queue that has seen any, by queue. The last row holds all queues from its own
    /// number on.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn tallies(&self) -> Result<Vec<(u32, Tally)>, Error> {
        self.rows(QUEUE_ROWS, |queue| Tally::read(queue, |slot| self.read(slot)), |tally| tally.total() != 0)
    }

    /// Frames that got this verdict, by queue; queues without any are left out, and so are those from `queues` on. A system call
    /// for each queue.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn with(&self, verdict: Verdict, queues: u32) -> Result<Vec<(u32, u64)>, Error> {
        self.rows(queues.min(QUEUE_ROWS), |queue| self.read(slot(queue, verdict)), |frames| *frames != 0)
    }

    fn rows<T>(
        &self,
        queues: u32,
        read: impl Fn(u32) -> Result<T, MapError>,
        keep: impl Fn(&T) -> bool,
    ) -> Result<Vec<(u32, T)>, Error> {
        let mut found = Vec::new();
        for queue in 0..queues {
            let row = read(queue).map_err(|error| unreadable(&error))?;
            if keep(&row) {
                found.push((queue, row));
            }
        }
        Ok(found)
    }

    fn read(&self, slot: u32) -> Result<u64, MapError> {
        Ok(self.map.get(&slot, 0)?.iter().sum())
    }
}

fn unreadable(reason: &dyn fmt::Display) -> Error {
    Error::Map { what: VERDICTS, reason: reason.to_string() }
}
