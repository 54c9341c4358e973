//! The command line that all peers have, in whatever language they are written.

use std::path::PathBuf;

use clap::Parser;

/// A WebSocket client that measures how old messages are once they are decoded.
#[derive(Debug, Parser)]
pub struct Options {
    /// wss://HOST:PORT/PATH or ws://HOST:PORT/PATH
    #[arg(long)]
    pub url: String,
    /// The only certificates that are trusted
    #[arg(long, value_name = "PEM")]
    pub ca_file: Option<PathBuf>,
    /// Messages after which the client closes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: u64,
    /// Messages at the beginning that are left out of the latency figures
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub warmup: u64,
    /// The field with the sender's `CLOCK_MONOTONIC`, in ns
    #[arg(long, value_name = "NAME")]
    pub stamp_field: Option<String>,
    /// Answer each message that has this field with a text message that begins with its number
    #[arg(long, value_name = "NAME")]
    pub echo_field: Option<String>,
    /// Pin the process to this core
    #[arg(long, value_name = "N")]
    pub core: Option<usize>,
    /// Where the figures go, as JSON
    #[arg(long, value_name = "FILE")]
    pub summary: PathBuf,
    /// Never sleep while nothing arrives. Those that never sleep anyway take it too
    #[arg(long, alias = "spin")]
    pub busy_poll: bool,
}
