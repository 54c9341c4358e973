//! What the XDP program has decided, read from its counters.

use std::fmt;

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError, PerCpuArray};
use wiretick_xdp::{QUEUE_ROWS, Tally, VERDICTS};

use super::Error;

/// A handle on the program's counters.
pub struct Verdicts {
    map: PerCpuArray<MapData, u64>,
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
        let map = PerCpuArray::try_from(Map::PerCpuArray(map)).map_err(|error| unreadable(&error))?;
        Ok(Self { map })
    }

    /// The decisions about the frames of each queue that has seen any, by queue. The last row holds all queues from its own
    /// number on.
    ///
    /// # Errors
    ///
    /// [`Error::Map`].
    pub fn tallies(&self) -> Result<Vec<(u32, Tally)>, Error> {
        let mut found = Vec::new();
        for queue in 0..QUEUE_ROWS {
            let tally = Tally::read(queue, |slot| self.read(slot)).map_err(|error| unreadable(&error))?;
            if tally.total() != 0 {
                found.push((queue, tally));
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
