//! The `wiretick` binary.

mod args;
mod compare;
mod confine;
mod doctor;
mod exit;
mod output;
mod quiet;
mod slow;
mod steer;
mod stream;
mod summary;
mod table;
mod tune;

use std::process::ExitCode;

use clap::Parser;
use log::LevelFilter;

use self::args::{Cli, Command};

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let result = match &command {
        Command::Stream(args) => {
            log_at(args.log);
            stream::run(args)
        }
        Command::Doctor(args) => {
            log_at(LevelFilter::Warn);
            return doctor::run(args);
        }
        Command::Tune(args) => {
            log_at(args.log);
            tune::run(args)
        }
        Command::Steer(args) => {
            log_at(args.log);
            steer::run(args)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wiretick: {error}");
            exit::code(&error)
        }
    }
}

fn log_at(level: LevelFilter) {
    // What the crates below say at debug level is for those who work on them.
    env_logger::Builder::new()
        .filter_level(level.min(LevelFilter::Info))
        .filter_module("wiretick", level)
        .format_timestamp_micros()
        .init();
}
