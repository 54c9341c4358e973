//! `wiretick doctor`: what keeps this machine from the best mode there is, and what makes messages late; then the proof.
//!
//! Facts are gathered in one place ([`facts`]), judged in another ([`checks`]), and proven with frames ([`prove`]). Doc comments on options are
//! what `--help` prints, so they hold no markup.
#![allow(clippy::doc_markdown)]

mod checks;
mod facts;
mod finding;
mod prove;

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use wiretick::control::Target;

use self::finding::{Report, Verdict};

/// What `--help` says besides the options.
pub(crate) const HELP: &str = "\
It changes nothing that stays: a program that is attached for the proof is taken off again, and every setting is compared with
what it was. Where attaching would disturb other traffic of the interface, or would switch an offload off, that is said and not
done, unless --prove is given.

One line for each check:
  ok    as it should be, or a matter of choice
  warn  it works, but costs time or certainty; also: not proven
  fail  it does not work, or keeps the bypass from a mode that this machine could have

Exit codes, by the worst of them:
  0  ok
  1  warn
  2  fail, or the command line is wrong";

#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// The interface to look at [default: the one the route to --host leads over, otherwise that of the default route].
    #[arg(long, value_name = "IF")]
    pub(crate) interface: Option<String>,

    /// The peer to prove the ring with: HOST[:PORT], or the feed's URL. A TCP connection to it is opened and closed for each mode;
    /// nothing is sent over it but a keep-alive probe. The port is 443 unless named.
    #[arg(long, value_name = "HOST")]
    pub(crate) host: Option<String>,

    /// The queue that the ring is to be on.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) queue: u32,

    /// The core that is to read the ring.
    #[arg(long, value_name = "N")]
    pub(crate) core: Option<usize>,

    /// Prove also what disturbs the interface: attaching a program stops the traffic of many NICs for milliseconds, and takes the
    /// link of some down for seconds.
    #[arg(long, requires = "host")]
    pub(crate) prove: bool,

    /// Write everything as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

pub(crate) fn run(args: &DoctorArgs) -> ExitCode {
    let target = match args.host.as_deref().map(target).transpose() {
        Ok(target) => target,
        Err(error) => {
            eprintln!("wiretick: --host: {error}");
            return ExitCode::from(Verdict::Fail.exit_code());
        }
    };
    let facts = facts::gather(args, target.as_ref());
    let mut checks = checks::all(&facts);
    checks.extend(prove::findings(args, &facts));
    let interface = facts.site.ok().map(|site| site.nic.name);
    let report = Report::new(interface, args.host.clone(), checks);
    let text = if args.json {
        serde_json::to_string_pretty(&report).unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}"))
    } else {
        report.to_string()
    };
    // Whoever has read enough is not a failure.
    let _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::from(report.verdict.exit_code())
}

/// A peer as it is named: a URL, or a host with or without a port.
fn target(host: &str) -> Result<Target, wiretick::control::Error> {
    if host.contains("://") { Target::parse(host) } else { Target::parse(&format!("wss://{host}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_url_or_a_host_with_or_without_a_port() {
        for (named, host, port) in [
            ("feed.example", "feed.example", 443),
            ("feed.example:9443", "feed.example", 9_443),
            ("192.0.2.7", "192.0.2.7", 443),
            ("[2001:db8::7]:80", "2001:db8::7", 80),
            ("wss://feed.example:9443/ws/btcusdt@trade", "feed.example", 9_443),
            ("ws://feed.example/", "feed.example", 80),
        ] {
            let target = target(named).unwrap();
            assert_eq!((target.host.as_str(), target.port), (host, port), "{named}");
        }
        assert!(target("").is_err() && target("https://feed.example").is_err());
    }
}
