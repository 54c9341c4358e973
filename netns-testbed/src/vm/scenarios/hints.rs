//! What a card says of each frame, where the XDP program asks it (`--stages`).
//!
//! There are such questions since Linux 6.3. virtio-net answers for the hash since 6.10 (`virtnet_xdp_rx_hash` in
//! `drivers/net/virtio_net.c`), where the device reports it and the feature is on; it knows no time. igb takes the program that
//! asks, and has no answers.

use super::modes::nothing_left;
use super::{Failed, Lab, Nic, Scenario, Series, best, is_steady};
use crate::vm::lab::{Ask, Stream, claim};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "hints::the_hash_of_each_frame_is_in_front_of_it",
        column: ("hints", "hash"),
        cells: |series, nic| series.supported && nic == Nic::VirtioRss && has_questions(series),
        show: hash,
    },
    Scenario {
        name: "hints::a_driver_without_answers_says_so_of_each_frame",
        column: ("hints", "none"),
        cells: |series, nic| series.supported && nic == Nic::Igb && has_questions(series),
        show: no_answers,
    },
    Scenario {
        name: "hints::a_kernel_without_questions_is_named_and_the_feed_comes_without",
        column: ("hints", "none"),
        cells: |series, nic| is_steady(series, nic) && best(series, nic) != "skb" && !has_questions(series),
        show: no_questions,
    },
];

/// Whether the kernel can be asked at all, and virtio-net for the hash.
fn has_questions(series: Series) -> bool {
    series.is_at_least("6.12")
}

fn hash(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let mut seen = Vec::new();
    for on in [true, false] {
        let state = if on { "on" } else { "off" };
        lab.script(&format!("ethtool -K $nic rxhash {state}"))?;
        let stream = asked(lab, &["--stages", "--queue", "all"])?;
        let nic = |name| stream.figures.counter("nic", name);
        let (frames, hashes, times) = (nic("frames"), nic("hash_known"), nic("time_known"));
        let expected = if on { frames } else { 0 };
        claim(frames > 0 && hashes == expected && times == 0, || {
            format!("rxhash {state}: {frames} frames, {hashes} with a hash, {times} with a time; {stream}")
        })?;
        seen.push(format!("rxhash {state}: {hashes} hashes, {times} times in {frames} frames"));
    }
    Ok(format!("{}; {}", best(lab.series(), lab.nic), seen.join("; ")))
}

fn no_answers(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let stream = asked(lab, &["--stages"])?;
    let nic = |name| stream.figures.counter("nic", name);
    let (frames, unsupported) = (nic("frames"), nic("time_unsupported"));
    claim(frames > 0 && unsupported == frames && nic("hash_known") == 0, || {
        format!(
            "of {frames} frames {unsupported} without support for times, {} with a hash; {stream}",
            nic("hash_known")
        )
    })?;
    Ok(format!("{stream}; asked, no answer in {frames} frames"))
}

fn no_questions(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let stream = asked(lab, &["--stages"])?;
    let (frames, reason) = (stream.figures.counter("nic", "frames"), stream.figures.not_asked());
    claim(frames == 0 && !reason.is_empty(), || format!("{frames} frames with answers; {reason:?}; {stream}"))?;
    Ok(format!("{stream}; not asked: {reason}"))
}

fn asked(lab: &mut Lab<'_>, options: &[&str]) -> Result<Stream, Failed> {
    let mode = best(lab.series(), lab.nic);
    let stream = lab.stream(&Ask { mode, options, ..Ask::default() })?;
    stream.came_whole()?;
    stream.was_in(mode)?;
    nothing_left(lab)?;
    Ok(stream)
}
