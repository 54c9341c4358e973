//! The order of the runs: interleaved rounds, until the time is used up.

use std::error::Error;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use wiretick_testbed::machine::{Machine, Ticks};

use crate::contender::Contender;
use crate::field::{Broken, Field};
use crate::plan::Plan;
use crate::results::{ContenderResults, Failure, LoadResults, Results, Run};

/// How often everything is run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rounds {
    /// So often.
    Exactly(u32),
    /// As often as the time allows, but not less often than this.
    Within(Duration, u32),
}

/// Rounds with two failed attempts each after which a contender is not tried any more at that load: a broken client may take
/// its whole patience each time.
const FAILURES: usize = 2;

/// Runs everything. In each round, at each load, everyone has a turn; who begins changes from round to round, so that
/// nobody always runs in the wake of the same other.
///
/// A run that brings no figure is tried once more. If that fails too, the contender has none in this round.
pub(crate) fn run(field: &Field, plan: &Plan, rounds: Rounds, stop: &AtomicBool) -> Result<Results, Box<dyn Error>> {
    let (began, ticks) = (Instant::now(), Ticks::now());
    let mut loads: Vec<_> = plan
        .acts
        .iter()
        .map(|act| {
            let results = |at: &usize| {
                let Contender { name, family, .. } = &plan.contenders[*at];
                ContenderResults { name: name.clone(), family: *family, runs: Vec::new(), failures: Vec::new() }
            };
            LoadResults { load: act.scene.load.clone(), contenders: act.contenders.iter().map(results).collect() }
        })
        .collect();
    let mut round = 0;
    loop {
        let round_began = Instant::now();
        for (act, results) in plan.acts.iter().zip(&mut loads) {
            for turn in 0..act.contenders.len() {
                let who = (turn + round as usize) % act.contenders.len();
                let contender = &plan.contenders[act.contenders[who]];
                if results.contenders[who].failures.len() >= FAILURES {
                    continue;
                }
                let told = format!("round {}, {}, {}", round + 1, results.load.name(), contender.name);
                let attempt = || field.run(contender, &act.scene, stop);
                let result = attempt().or_else(|broken| match broken {
                    Broken::Interrupted => Err(Broken::Interrupted),
                    Broken::Failed(why) => {
                        eprintln!("{told}: once more: {}", short(&why));
                        attempt()
                    }
                });
                match result {
                    Ok(run) => {
                        eprintln!("{told}: {}", figure(results, &run));
                        results.contenders[who].runs.push(run);
                    }
                    Err(Broken::Failed(why)) => {
                        eprintln!("{told}: failed: {why}");
                        results.contenders[who].failures.push(Failure { round: round + 1, why: short(&why) });
                    }
                    Err(Broken::Interrupted) => return Err("interrupted: nothing was written".into()),
                }
            }
        }
        round += 1;
        let is_enough = match rounds {
            Rounds::Exactly(rounds) => round >= rounds,
            Rounds::Within(time, least) => round >= least && began.elapsed() + round_began.elapsed() > time,
        };
        if is_enough {
            break;
        }
    }
    Ok(Results {
        machine: Machine::here(),
        command: command(),
        rounds: round,
        finished: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        took_s: began.elapsed().as_secs(),
        stolen: Ticks::now().stolen_since(ticks),
        versions: plan.contenders.iter().map(|it| (it.name.clone(), it.versions.clone())).collect(),
        skipped: plan.skipped.clone(),
        loads,
    })
}

/// The command that was given, without the folder that the program lies in.
fn command() -> String {
    let mut words: Vec<_> = std::env::args().collect();
    if let Some(program) = words.first_mut() {
        *program = program.rsplit('/').next().unwrap_or("bench").to_owned();
    }
    words.join(" ")
}

/// What a program said, in one line: some programs tell the cause first, others last.
fn short(why: &str) -> String {
    const CHARACTERS: usize = 120;
    let line: Vec<char> = why.split_whitespace().collect::<Vec<_>>().join(" ").chars().collect();
    let text = |characters: &[char]| characters.iter().collect::<String>();
    if line.len() <= 2 * CHARACTERS {
        return text(&line).trim_end_matches(['.', ':']).to_owned();
    }
    format!("{} ... {}", text(&line[..CHARACTERS]), text(&line[line.len() - CHARACTERS..]))
}

fn figure(results: &LoadResults, run: &Run) -> String {
    match (results.latency_us(|latency| latency.p50)(run), run.throughput()) {
        (Some(us), _) => format!("p50 {us:.2} us"),
        (None, Some(rate)) => format!("{:.2} million a second", rate / 1e6),
        (None, None) => "no figure".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_keeps_its_beginning_and_its_end() {
        assert_eq!(short("x ended:\n  no such venue.\n"), "x ended: no such venue");
        let long = short(&format!("the cause {} or here", "trace ".repeat(100)));
        assert!(long.len() < 260 && long.starts_with("the cause") && long.ends_with("or here"), "{long}");
    }
}
