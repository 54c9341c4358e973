//! What the Rust peers share, so that they differ in nothing but the WebSocket library: command line, decoding, clock,
//! bookkeeping, trust.
//!
//! A peer hands [`run`] its name and a function that connects, gives every text message to [`Tally::take`] and closes.

mod market;
mod options;
mod tally;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Parser as _;
use rustix::thread::{CpuSet, sched_setaffinity};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

pub use options::Options;
pub use tally::Tally;

/// Does everything a peer does but talk: options, pinning, `client`, the summary, the exit code. `libraries` are the
/// crates whose versions the summary tells.
pub fn run(
    name: &'static str,
    libraries: &[&'static str],
    client: impl FnOnce(&Options, &mut Tally) -> anyhow::Result<()>,
) -> ExitCode {
    // Before clap, which would ask for --url.
    if std::env::args_os().skip(1).eq(["--versions"]) {
        println!("{:#}", tally::versions(libraries));
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    let result = (|| {
        if let Some(core) = options.core {
            pin(core).with_context(|| format!("cannot pin to core {core}"))?;
        }
        let mut tally = Tally::new(&options);
        let ended = client(&options, &mut tally).and_then(|()| tally.is_complete());
        tally.write_summary(name, libraries, ended.as_ref().err())?;
        ended
    })();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// rustls with its defaults, trusting the certificates of `--ca-file` and no others.
pub fn tls(options: &Options) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(options)? {
        roots.add(certificate)?;
    }
    Ok(Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth()))
}

/// What is in `--ca-file`.
pub fn certificates(options: &Options) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let Some(path) = &options.ca_file else { bail!("wss:// needs --ca-file") };
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read certificates from {}", path.display()))
}

/// Runs an async client on the one thread there is. Two threads would hand messages from core to core.
pub fn block_on(options: &Options, client: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start tokio")?;
    runtime.block_on(async {
        if options.busy_poll {
            // A task that is always ready: the runtime looks at the socket between its turns and never sleeps.
            tokio::spawn(async {
                loop {
                    tokio::task::yield_now().await;
                }
            });
        }
        client.await
    })
}

fn pin(core: usize) -> anyhow::Result<()> {
    if core >= CpuSet::MAX_CPU {
        bail!("there is no such core");
    }
    let mut set = CpuSet::new();
    set.set(core);
    Ok(sched_setaffinity(None, &set)?)
}
