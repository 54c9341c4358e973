//! Home to the kernel and back to the ring, in mid-stream, on a real driver.

use std::time::Duration;

use super::modes::nothing_left;
use super::{Failed, Lab, Scenario, best, is_steady};
use crate::vm::lab::{Ask, claim};

pub(super) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "moves::home_and_back_five_times_in_mid_stream_nothing_is_lost",
    column: ("home and back", "works"),
    cells: |series, nic| is_steady(series, nic) && best(series, nic) != "skb",
    show: home_and_back,
}];

/// How often it goes home and back.
const ROUNDS: usize = 5;

fn home_and_back(lab: &mut Lab<'_>) -> Result<String, Failed> {
    let mode = best(lab.series(), lab.nic);
    let beside = format!(
        "seen promoted: 1\n\
         for round in $(seq {ROUNDS}); do\n\
         sleep 0.1; kill -USR1 $pid; seen 'went home' $round\n\
         sleep 0.1; kill -USR2 $pid; seen promoted: $((round + 1))\n\
         echo $round\ndone"
    );
    let ask = Ask { mode, lead: Duration::from_secs(15), beside: &beside, ..Ask::default() };
    let stream = lab.stream(&ask)?;
    stream.came_whole()?;
    stream.was_in(mode)?;
    let moves = &stream.figures.moves;
    let count = |to: &str| moves.iter().filter(|it| it.to == to).count();
    let (home, out) = (count("kernel"), count(mode));
    claim(home == ROUNDS && out == ROUNDS + 1, || format!("it went home {home} times and out {out} times: {moves:?}"))?;
    nothing_left(lab)?;
    Ok(format!("{mode}, {home} times home and back, {stream}, {} frames passed on", stream.figures.frames_passed))
}
