//! The `wiretick` binary.

mod args;
mod compare;
mod confine;
mod exit;
mod output;
mod quiet;
mod slow;
mod stream;
mod summary;
mod table;

use std::process::ExitCode;

use clap::Parser;
use log::LevelFilter;

use self::args::{Cli, Command};

fn main() -> ExitCode {
    let Cli { command } = Cli::parse();
    let result = match &command {
        Command::Stream(args) => {
            // What the crates below say at debug level is for those who work on them.
            env_logger::Builder::new()
                .filter_level(args.log.min(LevelFilter::Info))
                .filter_module("wiretick", args.log)
                .format_timestamp_micros()
                .init();
            stream::run(args)
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
