//! The segment stage against a peer that may send anything at all, and never lies about its own bytes.
//!
//! The input is read as a script: a lease, then step by step what arrives, what we send and how time passes. Whatever comes,
//! the stream is the peer's, in order, each byte once; only an RST at exactly the next sequence number ends it; and as soon as
//! the peer goes through everything once more, all of it has arrived.

use std::time::Duration;

use arbitrary::Unstructured;
use smoltcp::wire::TcpControl;
use wiretick::floor::Seq;
use wiretick::segment::TcpState;

use super::bench::{Bench, CHUNKS, Fate, Theirs, lease, theirs};

/// A script longer than this says nothing new.
const STEPS_MAX: usize = 200;

/// Runs the script.
pub fn check(input: &[u8]) {
    let mut script = Unstructured::new(input);
    let Ok((lease, hop)) = lease(&mut script) else { return };
    let mut bench = Bench::adopted(&lease, &hop);
    let mut steps = 0;
    while !script.is_empty() && steps < STEPS_MAX {
        if step(&mut bench, &mut script).unwrap_or(true) {
            return;
        }
        steps += 1;
    }
    everything_once_more(&mut bench);
}

/// Does one step. Answers whether that was the end of the connection.
fn step(bench: &mut Bench, script: &mut Unstructured<'_>) -> arbitrary::Result<bool> {
    let next = bench.delivered as i64;
    match script.arbitrary::<u8>()? % 16 {
        0..3 => {
            let len = usize::from(script.arbitrary::<u8>()?);
            let segment = bench.honest(next, within(bench, next, len));
            bench.arrive(&segment);
        }
        3..6 => {
            let at = next + i64::from(script.arbitrary::<i16>()?);
            let len = usize::from(script.arbitrary::<u8>()?) * 5;
            let segment = bench.honest(at, within(bench, at, len));
            bench.arrive(&segment);
        }
        6 => {
            let segment = anything(bench, script)?;
            bench.arrive(&segment);
        }
        7 => {
            // An RST near or far.
            let by: i32 = if script.arbitrary()? { script.arbitrary::<i8>()?.into() } else { script.arbitrary()? };
            let seq = Seq(bench.at(next).0.wrapping_add_signed(by));
            let exact = seq == bench.tcp.rcv_nxt();
            let behind_fin = bench.fin.is_some() && seq == bench.tcp.rcv_nxt() + 1;
            bench.arrive(&Theirs { control: TcpControl::Rst, seq, ..bench.honest(0, 0) });
            let is_reset = bench.tcp.state() == TcpState::Reset;
            assert!(!is_reset || exact || behind_fin, "reset by {by}");
            assert!(is_reset || !exact || bench.fin.is_some(), "an exact RST was ignored");
            return Ok(is_reset);
        }
        8 => {
            // The end, at one place.
            let at = bench.fin.unwrap_or(bench.put_end()).max(0);
            let before = i64::from(script.arbitrary::<u8>()?).min(at);
            let segment = bench.honest(at - before, usize::try_from(before).unwrap_or(0));
            bench.arrive(&Theirs { control: TcpControl::Fin, ..segment });
        }
        9 => {
            let len = usize::from(script.arbitrary::<u8>()? % 41).min(script.len());
            let mut options = script.bytes(len)?.to_vec();
            // Whole words, and the timestamps first where it says so.
            options.truncate(options.len() / 4 * 4);
            let segment = bench.honest(next, within(bench, next, 20));
            if let Some(value) = segment.timestamp.filter(|_| options.len() <= 28 && options.len() % 8 == 0) {
                let timestamps = [&[1, 1, 8, 10][..], &value.to_be_bytes(), &[0; 4]].concat();
                options = [timestamps, options].concat();
            }
            // What stands there in the timestamps' place may be taken for them.
            let value = options.windows(6).find(|window| window[..2] == [8, 10]).map(|window| &window[2..]);
            let timestamp = value.and_then(|value| value.first_chunk()).map(|value| u32::from_be_bytes(*value));
            bench.arrive(&Theirs { options: Some(options), timestamp, ..segment });
        }
        10 => bench.send(usize::from(script.arbitrary::<u16>()?) % 5000),
        11 => {
            let len = usize::from(script.arbitrary::<u8>()?).max(1);
            if !bench.stalled {
                bench.send_direct(len);
            }
        }
        12 => bench.later(Duration::from_micros(script.arbitrary::<u16>()?.into())),
        13 => bench.later(Duration::from_millis(script.arbitrary::<u16>()?.into())),
        14 => {
            bench.stalled = script.arbitrary()?;
            bench.read();
        }
        _ => bench.leave_frames(usize::from(script.arbitrary::<u8>()?) % (CHUNKS + 1)),
    }
    if bench.tcp.state() == TcpState::Reset {
        panic!("reset, and nobody has sent an RST");
    }
    Ok(false)
}

/// How many bytes there are at `at`, of `len`: the stream may have ended.
fn within(bench: &Bench, at: i64, len: usize) -> usize {
    bench.fin.map_or(len, |fin| usize::try_from(fin - at).unwrap_or(0).min(len))
}

/// A segment with any numbers, any flags but RST, any bytes that are the peer's at their place.
fn anything(bench: &Bench, script: &mut Unstructured<'_>) -> arbitrary::Result<Theirs> {
    let (seq, ack, near): (i32, i32, u8) = script.arbitrary()?;
    let at = bench.delivered as i64 + i64::from(if near & 1 != 0 { seq % 2000 } else { seq });
    let at = i64::from(at as i32);
    let ack = if near & 2 != 0 { ack % 100 } else { ack };
    let len = within(bench, at, usize::from(script.arbitrary::<u8>()?));
    let (window, bits, by): (u16, u8, i32) = script.arbitrary()?;
    let value = bench.echoed.map(|value| value.wrapping_add_signed(if near & 4 != 0 { by % 100 } else { by }));
    let base = bench.honest(at, len);
    Ok(Theirs {
        ack: Seq(base.ack.0.wrapping_add_signed(ack)),
        window,
        // Without FIN, SYN at the most with the timestamps left out, and without RST.
        timestamp: if near & 8 != 0 { None } else { value },
        bits: bits & !0x05,
        payload: (at..).take(len).map(theirs).collect(),
        ..base
    })
}

/// An honest peer sends again all that was ever sent and is not acknowledged: it arrives.
fn everything_once_more(bench: &mut Bench) {
    bench.leave_frames(CHUNKS);
    bench.stalled = false;
    bench.read();
    bench.later(Duration::from_millis(20));
    let end = bench.fin.unwrap_or_else(|| bench.put_end().min(bench.delivered as i64 + 20_000));
    if end > bench.delivered as i64 + 100_000 {
        return;
    }
    let mut tries = 0;
    while (bench.delivered as i64) < end {
        let at = bench.delivered as i64;
        let allowed = usize::try_from(bench.edge.distance(bench.at(at))).unwrap_or(0);
        let len = usize::try_from(end - at).unwrap_or(0).min(1000).min(allowed);
        let segment = bench.honest(at, len);
        assert_eq!(bench.arrive(&segment), Fate::Seen);
        bench.later(Duration::from_millis(20));
        tries += 1;
        assert!(tries < 400, "stuck at {at} of {end}, window {allowed}: {:?}", bench.tcp.counters());
    }
    if let Some(fin) = bench.fin {
        let segment = bench.honest(fin, 0);
        bench.arrive(&Theirs { control: TcpControl::Fin, ..segment });
        assert_eq!(bench.tcp.state(), TcpState::PeerClosed);
    }
}
