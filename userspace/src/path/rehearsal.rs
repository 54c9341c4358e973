//! Keeping the path warm: while nothing comes, a message that has come before goes through it once more.
//!
//! A core that only looks at an empty ring forgets the rest: after a millisecond, code and tables of decryption, decoding and
//! the handler have left the nearest caches, to ticks of the kernel, and on a rented machine to its other tenants. The next message then takes several
//! times as long (docs/MEASURING.md has the figures). So what comes in here is nothing but time; what goes out are
//! calls of [`Handler::rehearse`], and nothing else: a rehearsal has a path, keys and numbers of its own, and an outlet that leads nowhere.
//!
//! What it does not keep warm: the kernel, and most of the data of the connection itself.

use super::{Error, Handler, Outlet, Path, PathConfig, Slot, Source};
use crate::event;
use crate::floor::{Limits, Span, Time};
use crate::message;
use crate::record::{Content, Sealer, Session};

/// The longest message that is rehearsed. Sealed, it fits one segment on every link (IPv6: packets of 1,280 bytes); longer ones
/// are rehearsed as far as they are like shorter ones.
const SPECIMEN_BYTES_MAX: usize = 1_100;
const FRAME_BYTES_MAX: usize = SPECIMEN_BYTES_MAX + message::SERVER_HEAD_LEN_MAX;
/// After so many rehearsals another message is taken: feeds have several kinds.
const REHEARSALS_EACH: u32 = 64;
/// What the handler may send in one rehearsal: more than it can send in one message's time.
const OUTGOING_BYTES_MAX: usize = 64 << 10;

/// A message that has come, in a WebSocket frame as a server sends it.
#[derive(Debug)]
pub(super) struct Specimen {
    /// The next message is to be copied.
    pub(super) wanted: bool,
    frame: Vec<u8>,
}

impl Specimen {
    fn new() -> Self {
        Self { wanted: true, frame: Vec::with_capacity(FRAME_BYTES_MAX) }
    }

    /// Copies a text, where it is not too long.
    #[cold]
    pub(super) fn take(&mut self, text: &[u8]) {
        if text.len() <= SPECIMEN_BYTES_MAX {
            self.wanted = false;
            self.frame.clear();
            message::append_as_server(text, &mut self.frame);
        }
    }
}

/// A second path, and a venue to go with it.
pub(super) struct Rehearsal {
    pub(super) specimen: Specimen,
    /// From the first rehearsal on.
    stage: Option<Stage>,
    rehearsals: u32,
}

struct Stage {
    path: Path,
    /// Seals what the path opens.
    venue: Option<Sealer>,
    /// What it has sealed last.
    stream: Vec<u8>,
}

impl Rehearsal {
    pub(super) fn new() -> Self {
        Self { specimen: Specimen::new(), stage: None, rehearsals: 0 }
    }

    /// Has the venue send the specimen once more, where there is one: [`Rehearsal::stream`].
    ///
    /// # Errors
    ///
    /// None that is of any consequence, but for memory: whatever it is, there should be no more rehearsals.
    pub(super) fn next(&mut self, session: Option<&Session>, events: &event::Options) -> Result<bool, Error> {
        let frame = &self.specimen.frame;
        if frame.is_empty() {
            return Ok(false);
        }
        let Stage { venue, stream, .. } = match &mut self.stage {
            Some(stage) => stage,
            none => none.insert(Stage::new(session, events)?),
        };
        stream.clear();
        match venue {
            Some(venue) => venue.seal(Content::ApplicationData, frame, stream)?,
            None => stream.extend_from_slice(frame),
        }
        Ok(true)
    }

    /// What the venue has sent last.
    pub(super) fn stream(&self) -> &[u8] {
        self.stage.as_ref().map_or(&[], |stage| &stage.stream)
    }

    /// Takes that through the second path; what it holds of the ring is handed back, whatever the result, of which is said what
    /// [`Rehearsal::next`] says of its errors.
    pub(super) fn arrive<H: Handler, O: Outlet>(
        &mut self,
        events: &mut event::Decoder,
        (span, source, at): (Span<'_>, Source, Time),
        handler: &mut H,
        outlet: &mut O,
    ) -> (Option<Slot>, Result<(), Error>) {
        let Some(Stage { path, .. }) = &mut self.stage else { return (None, Ok(())) };
        // The decoder is the real one: what it has learnt of the feed's messages is what it will look at next.
        let result = events.uncounted(|events| {
            std::mem::swap(&mut path.events, events);
            let result = path.arrive(span, source, at, handler, outlet);
            std::mem::swap(&mut path.events, events);
            result
        });
        path.stopped = false;
        let slot = path.outbox.forget();
        self.rehearsals = self.rehearsals.wrapping_add(1);
        if self.rehearsals.is_multiple_of(REHEARSALS_EACH) {
            self.specimen.wanted = true;
        }
        (slot, result)
    }
}

impl Stage {
    fn new(session: Option<&Session>, events: &event::Options) -> Result<Self, Error> {
        let limits = Limits {
            message_bytes_max: SPECIMEN_BYTES_MAX,
            outgoing_bytes_max: OUTGOING_BYTES_MAX,
            ..Limits::default()
        };
        let mut path = Path::blank(&PathConfig {
            tls: None,
            authority: "",
            path_and_query: "",
            headers: &[],
            subscriptions: &[],
            messages_per_second: None,
            limits,
            events: events.clone(),
        })?;
        path.rehearses = true;
        let (session, venue) = session.map(Session::rehearsal).transpose()?.unzip();
        path.session = session;
        Ok(Self { path, venue, stream: Vec::with_capacity(FRAME_BYTES_MAX + 64) })
    }
}
