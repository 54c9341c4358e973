//! `testbed vm`: wiretick on Debian's kernels and real drivers, in virtual machines.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;
use wiretick_testbed::client::beside_us;
use wiretick_testbed::vm::{self, Choice, Guest, Kernel, Nic, Payload, Props, SERIES, Series, Shown, Verdict};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the scenarios, and shows the matrix of kernels and cards. Ends with 1 where one fails
    Test(TestOptions),
    /// Runs a shell script in a guest and shows what it wrote; the interfaces are igb0, virtio0, rss0, plain0 and e1000e0
    Run(RunOptions),
    /// Fetches kernels into the cache, and says what is there
    Fetch(KernelOptions),
}

#[derive(Args, Debug)]
pub(crate) struct KernelOptions {
    /// Only these kernels: 5.10, 6.1, 6.12, 6.18, newest
    #[arg(long, value_name = "SERIES", value_delimiter = ',', value_parser = series)]
    kernel: Vec<Series>,
}

#[derive(Args, Debug)]
pub(crate) struct TestOptions {
    #[command(flatten)]
    kernels: KernelOptions,
    /// Only these cards
    #[arg(long, value_enum, value_delimiter = ',')]
    nic: Vec<Nic>,
    /// Only the scenarios with this in their name; may be given several times
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,
    /// Shows what would be run
    #[arg(long)]
    list: bool,
}

#[derive(Args, Debug)]
pub(crate) struct RunOptions {
    /// The kernel
    #[arg(long, value_name = "SERIES", default_value = "newest", value_parser = series)]
    kernel: Series,
    /// Seconds that it may take
    #[arg(long, value_name = "S", default_value_t = 60)]
    seconds: u64,
    /// The script
    script: String,
}

fn series(name: &str) -> Result<Series, String> {
    Series::named(name).ok_or_else(|| {
        let names: Vec<_> = SERIES.iter().map(|series| series.name).collect();
        format!("one of {}", names.join(", "))
    })
}

impl KernelOptions {
    fn chosen(&self) -> Vec<Series> {
        if self.kernel.is_empty() { SERIES.to_vec() } else { self.kernel.clone() }
    }
}

pub(crate) fn run(command: &Command, stop: &Arc<AtomicBool>) -> Result<ExitCode, Box<dyn Error>> {
    let result = match command {
        Command::Test(options) => test(options, stop),
        Command::Run(options) => script(options, stop),
        Command::Fetch(options) => fetch(options),
    };
    match result {
        Err(error) if matches!(error.downcast_ref(), Some(vm::Error::Interrupted)) => {
            eprintln!("interrupted; nothing is left behind");
            Ok(ExitCode::from(130))
        }
        result => result,
    }
}

fn fetch(options: &KernelOptions) -> Result<ExitCode, Box<dyn Error>> {
    for series in options.chosen() {
        let kernel = Kernel::fetch(series)?;
        println!("{:8} {} (package {}, {})", series.name, kernel.release, kernel.package, series.release);
    }
    Ok(ExitCode::SUCCESS)
}

fn script(options: &RunOptions, stop: &Arc<AtomicBool>) -> Result<ExitCode, Box<dyn Error>> {
    needs_root()?;
    let kernel = Kernel::fetch(options.kernel)?;
    let mut guest = Guest::boot(&kernel, &Payload::new(&programs()?, &[])?, stop)?;
    let output = guest.run(&options.script, Duration::from_secs(options.seconds))?;
    print!("{}", output.stdout);
    eprint!("{}", output.stderr);
    Ok(u8::try_from(output.code).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn test(options: &TestOptions, stop: &Arc<AtomicBool>) -> Result<ExitCode, Box<dyn Error>> {
    let nics = if options.nic.is_empty() { Nic::ALL.to_vec() } else { options.nic.clone() };
    let choice = Choice { kernels: options.kernels.chosen(), nics, only: options.only.clone() };
    if options.list {
        for &series in &choice.kernels {
            for (nic, scenario) in choice.on(series) {
                println!("{:8} {:13} {}", series.name, nic.name(), scenario.name);
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    needs_root()?;
    let props = Props::new()?;
    println!("qemu   {}, without KVM", vm::qemu_version()?);
    println!("feed   {}, {} bytes, over TLS 1.3\n", props.feed.name, props.feed.bytes());
    let began = Instant::now();
    let mut all = Vec::new();
    let mut tell = |shown: Shown| {
        say(&shown);
        all.push(shown);
    };
    vm::run(&choice, &props, &programs()?, stop, &mut tell)?;
    let failed = all.iter().filter(|shown| matches!(shown.verdict, Verdict::Failed { .. })).count();
    println!("\n{}\n{} s\n{} passed, {failed} failed", matrix(&all), began.elapsed().as_secs(), all.len() - failed);
    Ok(if failed == 0 && !all.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The columns of the matrix, in order.
const COLUMNS: [&str; 12] = [
    "zerocopy",
    "driver",
    "skb",
    "auto",
    "home and back",
    "VLAN",
    "queues",
    "chosen ports",
    "jumbo",
    "hints",
    "bond",
    "doctor",
];

/// A kernel and a card, and a word for each column.
type Row<'a> = ((&'a str, Nic), BTreeMap<&'a str, &'a str>);

/// A row for each kernel and card that was tried; a cell without anything is one that was not.
fn matrix(all: &[Shown]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["kernel", "card"].into_iter().chain(COLUMNS));
    let mut rows: Vec<Row<'_>> = Vec::new();
    for Shown { kernel, nic, scenario, verdict, .. } in all {
        let (column, word) = scenario.column;
        let word = match verdict {
            Verdict::Failed { .. } => "FAILED",
            Verdict::Passed(seen) if word.is_empty() => seen.split(',').next().unwrap_or_default(),
            Verdict::Passed(_) => word,
        };
        let key = (kernel.release.as_str(), *nic);
        let at = rows.iter().position(|(row, _)| *row == key).unwrap_or_else(|| {
            rows.push((key, BTreeMap::new()));
            rows.len() - 1
        });
        // Of several scenarios in a cell, one that failed is what must be seen.
        let cell = rows[at].1.entry(column).or_insert(word);
        if word == "FAILED" {
            *cell = word;
        }
    }
    for ((kernel, nic), cells) in rows {
        let cells = COLUMNS.map(|column| cells.get(column).copied().unwrap_or_default());
        table.add_row([kernel, nic.name()].into_iter().chain(cells));
    }
    table
}

fn say(shown: &Shown) {
    let Shown { kernel, nic, scenario, verdict, took } = shown;
    let head = format!("{:22} {:13} {}", kernel.release, nic.name(), scenario.name);
    match verdict {
        Verdict::Passed(seen) => println!("ok     {head} ({:.0} s): {seen}", took.as_secs_f64()),
        Verdict::Failed { why, said } => {
            println!("FAILED {head} ({:.0} s): {why}", took.as_secs_f64());
            for line in said.lines() {
                println!("       | {line}");
            }
        }
    }
}

fn programs() -> Result<Vec<PathBuf>, Box<dyn Error>> {
    Ok(vec![beside_us("wiretick")?])
}

fn needs_root() -> Result<(), Box<dyn Error>> {
    if rustix::process::geteuid().is_root() {
        Ok(())
    } else {
        Err("taps and network namespaces need root: run it with sudo".into())
    }
}
