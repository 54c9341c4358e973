//! Takes guests through their scenarios: one guest for each kernel, booted when it is first needed, and anew where a scenario
//! has broken it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::lab::{Failed, Lab, Props};
use super::scenarios::{self, Scenario};
use super::{Error, Guest, Kernel, Nic, Payload, Series};

/// What to run.
#[derive(Clone, Debug)]
pub struct Choice {
    /// On these kernels.
    pub kernels: Vec<Series>,
    /// On these cards.
    pub nics: Vec<Nic>,
    /// Scenarios with one of these in their name; all, where there is none.
    pub only: Vec<String>,
}

impl Choice {
    /// What is to be shown on a kernel, in order.
    #[must_use]
    pub fn on(&self, series: Series) -> Vec<(Nic, Scenario)> {
        let is_wanted = |name: &str| self.only.is_empty() || self.only.iter().any(|part| name.contains(part));
        let scenarios: Vec<_> = scenarios::all().into_iter().filter(|scenario| is_wanted(scenario.name)).collect();
        let on = |&nic: &Nic| scenarios.iter().filter(move |it| (it.cells)(series, nic)).map(move |&it| (nic, it));
        self.nics.iter().flat_map(on).collect()
    }
}

/// How a scenario went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has shown what it was to show; what was seen.
    Passed(String),
    /// It has not; why not, and what wiretick or the guest said.
    Failed {
        /// In a sentence.
        why: String,
        /// All that was said.
        said: String,
    },
}

/// A scenario that has been run.
#[derive(Clone, Debug)]
pub struct Shown {
    /// In this guest.
    pub kernel: Kernel,
    /// On this card.
    pub nic: Nic,
    /// What was run.
    pub scenario: Scenario,
    /// How it went.
    pub verdict: Verdict,
    /// How long it took. That says nothing about wiretick.
    pub took: Duration,
}

/// Runs what was chosen, and tells of each scenario as soon as it is over. `programs` are copied into the guests.
///
/// # Errors
///
/// Where a guest cannot be booted, a kernel not be had, or we were told to stop; not where a scenario fails.
pub fn run(
    choice: &Choice,
    props: &Props,
    programs: &[PathBuf],
    stop: &Arc<AtomicBool>,
    tell: &mut dyn FnMut(Shown),
) -> Result<(), Error> {
    let payload = Payload::new(programs, &[props.ca_file()])?;
    for &series in &choice.kernels {
        let scenarios = choice.on(series);
        if scenarios.is_empty() {
            continue;
        }
        let kernel = Kernel::fetch(series)?;
        let mut guest = None;
        for (nic, scenario) in scenarios {
            let began = Instant::now();
            let mut booted = match guest.take() {
                Some(guest) => guest,
                None => Guest::boot(&kernel, &payload, stop)?,
            };
            let mut lab = Lab::new(&mut booted, nic, props);
            let result = (scenario.show)(&mut lab);
            let last = lab.last().to_owned();
            let verdict = match result {
                Ok(seen) => Verdict::Passed(seen),
                Err(Failed::Lab(Error::Interrupted)) => return Err(Error::Interrupted),
                Err(Failed::Claim(why)) => {
                    Verdict::Failed { why, said: format!("{last}\n--- console:\n{}", booted.console()) }
                }
                Err(Failed::Lab(error)) => Verdict::Failed { why: error.to_string(), said: last },
            };
            // What a failure has left behind must not fail others.
            if matches!(verdict, Verdict::Passed(_)) {
                guest = Some(booted);
            }
            let (kernel, took) = (kernel.clone(), began.elapsed());
            tell(Shown { kernel, nic, scenario, verdict, took });
        }
    }
    Ok(())
}
