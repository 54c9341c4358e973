//! The command line: that of the benchmark's peers, and `--wait`. Doc comments here are what `--help` prints, so they hold
//! no markup.
#![allow(clippy::doc_markdown)]

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// wiretick's stages over a kernel socket.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Options {
    /// wss://HOST:PORT/PATH or ws://HOST:PORT/PATH
    #[arg(long)]
    pub(crate) url: String,
    /// The only certificates that are trusted
    #[arg(long, value_name = "PEM")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Messages after which the client closes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,
    /// Messages at the beginning that are left out of the latency figures
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) warmup: u64,
    /// The field with the sender's CLOCK_MONOTONIC, in ns
    #[arg(long, value_name = "NAME")]
    pub(crate) stamp_field: Option<String>,
    /// Answer each message that has this field with a text message that begins with its number; where --stamp-field is
    /// given too, it must be the same
    #[arg(long, value_name = "NAME")]
    pub(crate) echo_field: Option<String>,
    /// Pin the process to this core
    #[arg(long, value_name = "N")]
    pub(crate) core: Option<usize>,
    /// Where the figures go, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) summary: PathBuf,
    /// How the socket is read
    #[arg(long, value_enum, default_value_t = Wait::Epoll)]
    wait: Wait,
    /// The same as --wait busy-poll
    #[arg(long, conflicts_with = "wait")]
    busy_poll: bool,
}

impl Options {
    /// How the socket is read.
    pub(crate) fn wait(&self) -> Wait {
        if self.busy_poll { Wait::BusyPoll } else { self.wait }
    }
}

/// How the bytes are had from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    /// recv that sleeps until something is there
    Blocking,
    /// epoll_wait, then recv
    Epoll,
    /// io_uring: multishot receive into provided buffers, sleeping until one is full
    IoUring,
    /// The same, looking at the completion ring without pause
    IoUringSpin,
    /// recv on a non-blocking socket, without pause
    Spin,
    /// The same with SO_BUSY_POLL: recv looks into the driver's queue itself, where the driver has NAPI
    BusyPoll,
}
