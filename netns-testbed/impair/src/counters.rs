//! What a wire did, one number for each fate.

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Frames of one direction, by what became of them.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            /// Those that are not zero, with their names.
            #[must_use]
            pub fn nonzero(&self) -> Vec<(&'static str, u64)> {
                let all = [$((stringify!($name), self.$name)),*];
                all.into_iter().filter(|(_, count)| *count > 0).collect()
            }
        }
    };
}

counters! {
    /// Frames that came, of those that impairments apply to.
    frames,
    /// Frames that passed by: not in the plan's scope.
    others,
    /// Segments whose bytes the wire had seen before: sent again, or probes.
    retransmitted,
    /// Lost, each by itself or by the script.
    lost,
    /// Lost in a burst.
    lost_in_burst,
    /// Lost because the wire was cut.
    blackholed,
    /// Dropped because the queue before the bandwidth was full.
    over_rate,
    /// Dropped because too many frames waited.
    over_queue,
    /// Delivered once more.
    duplicated,
    /// Held back so that others overtake.
    held_back,
    /// Delivered with a flipped bit.
    corrupted,
    /// Delivered with a flipped bit and a right checksum.
    payload_forged,
    /// Delivered without their end.
    truncated,
    /// Cut into two segments.
    split,
    /// Joined with the one before.
    joined,
    /// Delayed by jitter or by the script.
    delayed,
    /// Made up.
    forged,
    /// Frames that left.
    delivered,
}
