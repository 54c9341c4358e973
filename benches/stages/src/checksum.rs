//! The frame stage: the checksum that is verified once for all stages, and the walk over the headers around it, beside a
//! copy of the same bytes.

use std::hint::black_box;

use smoltcp::wire::{TcpControl, TcpRepr, TcpSeqNumber, TcpTimestampRepr};
use wiretick::floor::FourTuple;
use wiretick::frame::checksum::Sum;
use wiretick::frame::{Envelope, as_linux_writes, parse, write_segment};

use crate::{Bench, Padded, Repeat, Shape};

const GROUP: &str = "checksum";
/// Ethernet and IPv4, without options.
const TCP_AT: usize = 34;
/// What a full segment carries at an MTU of 1500: 20 bytes of IPv4, 20 of TCP and 12 of timestamps are its headers.
const FULL: usize = 1448;
/// A TLS 1.3 record has so much around its plaintext: header, content type, tag.
const RECORD_OVERHEAD: usize = 5 + 1 + 16;

pub(crate) fn benches() -> Vec<Bench> {
    let mut benches = Vec::new();
    for (bytes, payload) in
        [("a trade's segment", Shape::ONE.plaintext(0).0.len() + RECORD_OVERHEAD), ("a full segment", FULL)]
    {
        let memcpy = format!("memcpy of {bytes}");
        benches.push(Bench::new(GROUP, memcpy.clone(), move || {
            let mut to = vec![0; TCP_AT + 32 + FULL];
            Repeat::new(frames(payload), 1, move |frame| {
                let segment = &frame.bytes()[TCP_AT..];
                to[..segment.len()].copy_from_slice(segment);
                black_box(&mut to);
            })
        }));
        let sum = move || {
            let tuple = tuple();
            Repeat::new(frames(payload), 1, move |frame| {
                let segment = &frame.bytes()[TCP_AT..];
                let sum = Sum::pseudo_header(tuple.remote.ip(), tuple.local.ip(), segment.len()).and(segment);
                assert!(black_box(sum).verifies());
            })
        };
        benches.push(Bench::new(GROUP, format!("TCP checksum of {bytes}"), sum).beside(memcpy.clone()));
        let walk = move || {
            Repeat::new(frames(payload), 1, |frame| {
                assert!(black_box(parse(frame.bytes())).is_ok_and(|segment| segment.is_some()));
            })
        };
        benches.push(Bench::new(GROUP, format!("headers and checksums of {bytes}"), walk).beside(memcpy));
    }
    benches
}

fn tuple() -> FourTuple {
    FourTuple { local: ([10, 77, 0, 1], 40_000).into(), remote: ([10, 77, 0, 2], 443).into() }
}

/// A batch of frames with segments of an exchange that carry so many bytes.
fn frames(payload_len: usize) -> Vec<Padded> {
    let FourTuple { local, remote } = tuple();
    let envelope = Envelope::new([4; 6], [2; 6], None, false);
    (0..32u32)
        .map(|number| {
            let payload: Vec<u8> = (0..payload_len).map(|at| (at as u32 * 31 + number * 7) as u8).collect();
            let segment = TcpRepr {
                src_port: 0,
                dst_port: 0,
                control: TcpControl::Psh,
                seq_number: TcpSeqNumber(number as i32 * payload_len as i32),
                ack_number: Some(TcpSeqNumber(1)),
                window_len: 1000,
                window_scale: None,
                max_seg_size: None,
                sack_permitted: false,
                sack_ranges: [None; 3],
                timestamp: Some(TcpTimestampRepr::new(number, 7)),
                payload: &payload,
            };
            let mut frame = vec![0; TCP_AT + 32 + payload_len];
            envelope.write(&mut frame);
            let peer = FourTuple { local: remote, remote: local };
            let len = write_segment(&peer, &segment, &mut frame[envelope.len()..]);
            assert_eq!(envelope.len() + len, frame.len());
            as_linux_writes(&mut frame[envelope.len()..]);
            Padded::new(&frame)
        })
        .collect()
}
