//! The program `bench`: clients measured side by side against the testbed's exchange, between two network namespaces.
//!
//! Each figure comes from whole programs: a fresh process and a fresh connection for every run, the contenders of one load
//! right after each other, in an order that rotates from round to round, and the median over the rounds.

mod awake;
mod contender;
mod field;
mod floor;
mod goals;
mod load;
mod payload;
mod peers;
mod plan;
mod report;
mod results;
mod rounds;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::field::Field;
use crate::plan::{Plan, Size};
use crate::results::Results;
use crate::rounds::Rounds;

/// Measures wiretick beside what else there is.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything: all modes, kernel sockets and peers at all loads; writes a report
    Full(FullOptions),
    /// The main table: two loads, short runs
    Quick(QuickOptions),
    /// wiretick's own modes: kernel, skb, driver; paced loads
    Modes(ModesOptions),
    /// AF_XDP by itself: frames as long as a trade's, over UDP, from send to taken; no TCP, no TLS
    Floor(FloorOptions),
    /// Writes the report of a full run anew from its runs
    Report {
        /// The folder
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
    },
}

#[derive(Args, Debug)]
struct FullOptions {
    /// Where the report, the drawings and all runs go
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// As many rounds as fit into this time, at least three
    #[arg(long, value_name = "N", default_value_t = 15)]
    minutes: u64,
    #[command(flatten)]
    selection: Selection,
}

#[derive(Args, Debug)]
struct QuickOptions {
    /// As many rounds as fit into this time, at least two
    #[arg(long, value_name = "N", default_value_t = 2)]
    minutes: u64,
    #[command(flatten)]
    selection: Selection,
}

/// For those who look into one thing.
#[derive(Args, Debug)]
struct Selection {
    /// So many rounds, however long they take
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Only loads whose file name contains one of these words (paced-10000, captured, saturated-16-plain, ...)
    #[arg(long, value_name = "WORD,...", value_delimiter = ',')]
    loads: Vec<String>,
    /// Only clients whose name contains one of these words
    #[arg(long, value_name = "WORD,...", value_delimiter = ',')]
    clients: Vec<String>,
}

#[derive(Args, Debug)]
struct ModesOptions {
    /// Messages a second; a table row for each
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1000,20000")]
    rates: Vec<u64>,
    /// Seconds of each run
    #[arg(long, value_name = "S", default_value_t = 4)]
    seconds: u64,
    /// Runs of each mode at each rate
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Writes the table to this file, and all runs to one beside it that ends in .json
    #[arg(long, value_name = "FILE.md")]
    out: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct FloorOptions {
    /// Frames a second
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// Seconds of each run
    #[arg(long, value_name = "S", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Runs of each mode
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    match run(&Options::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Full(FullOptions { out, minutes, selection }) => {
            let results = measure(Size::Full, *minutes, 3, selection)?;
            report::full(&results, out)?;
            println!("{}", out.join("REPORT.md").display());
        }
        Command::Quick(QuickOptions { minutes, selection }) => {
            report::quick(&measure(Size::Quick, *minutes, 2, selection)?);
        }
        Command::Modes(options) => {
            let stop = stop_on_signals()?;
            let field = Field::new()?;
            let plan = Plan::modes(&options.rates, options.seconds)?;
            let results = rounds::run(&field, &plan, Rounds::Exactly(options.rounds), &stop)?;
            report::modes(&results, options.out.as_deref())?;
        }
        Command::Floor(FloorOptions { rate, seconds, rounds }) => {
            let stop = stop_on_signals()?;
            let results = floor::measure(*rate, Duration::from_secs(*seconds), *rounds, &stop)?;
            report::floor(&results);
        }
        Command::Report { out } => report::full(&report::read_runs(out)?, out)?,
    }
    Ok(())
}

fn measure(size: Size, minutes: u64, least: u32, selection: &Selection) -> Result<Results, Box<dyn Error>> {
    let stop = stop_on_signals()?;
    let field = Field::new()?;
    let mut plan = Plan::new(size)?;
    plan.narrow(&selection.loads, &selection.clients);
    let rounds = match selection.rounds {
        Some(rounds) => Rounds::Exactly(rounds),
        None => Rounds::Within(Duration::from_secs(60 * minutes), least),
    };
    let (runs, time) = (plan.runs(), plan.expected().as_secs());
    eprintln!("{runs} runs a round, about {time} seconds");
    rounds::run(&field, &plan, rounds, &stop)
}

fn stop_on_signals() -> Result<Arc<AtomicBool>, Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }
}
