//! The program `bench`: clients measured side by side against the testbed's exchange, between two network namespaces.
//!
//! Each figure comes from whole programs: a fresh process and a fresh connection for every run, the contenders of one load
//! right after each other, in an order that rotates from round to round, and the median over the rounds.

mod contender;
mod field;
mod load;
mod report;
mod rounds;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, Parser, Subcommand};
use signal_hook::consts::{SIGINT, SIGTERM};

use crate::contender::Contender;
use crate::field::Field;
use crate::load::Load;

/// Measures wiretick beside what else there is.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// wiretick's own modes: kernel, skb, driver; paced loads
    Modes(ModesOptions),
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

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let Command::Modes(options) = &options.command;
    let field = Field::new()?;
    let contenders = ["kernel", "skb", "driver"].map(Contender::wiretick).into_iter().collect::<Result<Vec<_>, _>>()?;
    let loads: Vec<_> =
        options.rates.iter().map(|rate| Load::paced(*rate, options.seconds)).collect::<Result<_, _>>()?;
    let results = rounds::run(&field, &contenders, &loads, options.rounds, &stop)?;
    report::show(&results, options.out.as_deref())?;
    Ok(())
}
