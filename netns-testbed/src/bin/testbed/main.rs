//! The program `testbed`: wiretick shown and tried out between two machines that do not exist. Doc comments on options are what `--help` prints, so they
//! hold no markup.
#![allow(clippy::doc_markdown)]

mod demo;
mod shell;
mod soak;
mod stage;
mod vm;
mod weather;

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Two network namespaces, a wire between them, and an exchange on the far one.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Streams the same feed over the kernel, in skb mode and in driver mode, and shows one table
    Demo(demo::Options),
    /// Opens a shell, or runs a command, on the client's machine while an exchange is up on the other
    ///
    /// The variables WIRETICK_URL and WIRETICK_CA tell where the exchange is and whom to trust.
    Shell(shell::Options),
    /// Streams one feed in driver mode for a long time, and checks that memory stays flat and every counter adds up
    Soak(soak::Options),
    /// Replays a capture over a wire that loses, doubles, reorders, spoils and delays, and compares what arrives
    ///
    /// One row for each weather and mode: whether every message came through byte for byte, how fast, and the longest time
    /// in which nothing came. Ends with 1 where anything differs.
    Weather(weather::Options),
    /// Boots virtual machines with Debian's kernels and real drivers, and shows what wiretick does on them
    #[command(subcommand)]
    Vm(vm::Command),
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn")).init();
    match run(&Options::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("testbed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> Result<ExitCode, Box<dyn Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    match command {
        Command::Demo(options) => demo::run(options, &stop),
        Command::Shell(options) => shell::run(options),
        Command::Soak(options) => soak::run(options, &stop),
        Command::Weather(options) => weather::run(options, &stop),
        Command::Vm(command) => vm::run(command, &stop),
    }
}
