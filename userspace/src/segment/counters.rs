//! What became of segments: a number for each early return.

use crate::floor::counters::counters;

counters! {
    /// What became of segments.
    pub struct TcpCounters {
        /// Segments whose payload was used where it lay.
        segments_in_order,
        /// Segments with data that went through reassembly.
        segments_reassembled,
        /// Segments without data.
        segments_empty,
        /// Segments that came through the kernel's socket after the handover.
        segments_injected,
        /// Segments that carried an acknowledgement older than one already seen: raised, data kept.
        acks_raised,
        /// Segments that acknowledged what was never sent: answered with a challenge ACK.
        acks_refused,
        /// RST segments whose sequence number was not exactly the next expected: answered with a challenge ACK.
        resets_challenged,
        /// RST segments outside the window.
        resets_outside_window,
        /// SYN segments on an open connection: answered with a challenge ACK.
        syns_challenged,
        /// Challenge ACKs that were held back because one had just been sent.
        challenges_limited,
        /// Segments that reached beyond the window: dropped.
        beyond_window,
        /// Segments without the ACK bit: dropped.
        without_ack,
        /// Segments from before the peer's last timestamp (PAWS): dropped, those with data answered.
        outdated,
        /// Segments with nothing that had not been received before: answered.
        segments_duplicate,
        /// Keep-alive and window probes: answered.
        probes_answered,
        /// Acknowledgements that reported what is held behind holes, or came twice.
        acks_selective,
        /// Segments behind more holes than can be remembered: dropped, and not reported as held.
        holes_exhausted,
        /// Segments with data behind the peer's FIN: dropped.
        after_end,
        /// FINs that came before what they follow: kept.
        fins_early,
        /// Segments with data that left before smoltcp knew of them.
        segments_direct,
        /// Segments sent.
        segments_sent,
        /// Segments sent again, by us or by smoltcp.
        segments_resent,
        /// Those of them that left because the peer was silent.
        probes_sent,
        /// Segments sent again of which the peer said that it had them.
        resends_needless,
        /// Segments that smoltcp wanted to send again right after they had been.
        resends_held_back,
        /// Times a router said that packets are too big, and was believed.
        mtu_lowered,
        /// Times it was not: of a segment that is not on its way, or not smaller.
        too_big_refused,
        /// Segments that could not be sent for want of a free frame: TCP sends them again.
        send_no_frame,
    }
}
