//! What wiretick is tested against: two machines that do not exist, the wire between them, and an exchange on the far one.
//!
//! * [`topology`]: network namespaces joined by veth pairs, with a router between them if asked for. A guard: nothing is
//!   visible on the machine, nothing is left behind. Needs root.
//! * [`exchange`]: a WebSocket exchange over TLS 1.3, TLS 1.2 or plain TCP that replays captures or makes up its own feed,
//!   on a schedule; and does one of many things wrong if asked to. The program `exchange` is the same with a command line.
//! * [`pki`]: a certificate authority of its own, good certificates and bad ones.
//! * [`capture`]: what really stood on a wire, checksums included.
//! * [`feeds`]: captured exchange traffic, where it exists.
//! * [`client`]: programs that are clients of the exchange, and their closing figures.
//! * [`impair`]: what a wire does to segments, from a seed: loss, reordering, forgery and more; pure, for real links and for
//!   virtual time. A crate of its own: whoever needs no machines needs none of the rest.
//! * [`machine`]: what all this runs on.
//! * [`vm`]: virtual machines with Debian's kernels and real drivers, on cables that end in a namespace. Needs root and QEMU.
//!
//! The program `testbed` shows it all together: `testbed demo`, `testbed shell`.
//!
//! It depends on none of wiretick's protocol code: as the other end of the wire it must be another implementation, or both
//! would make the same mistake and agree on it. What comes in are plans and configurations; what goes out are guards and
//! reports.
//!
//! # A test, from end to end
//!
//! ```no_run
//! use wiretick_testbed::exchange::{Config, Exchange, Feed, Security, SyntheticPlan, Tls};
//! use wiretick_testbed::pki::{Authority, Validity};
//! use wiretick_testbed::topology::{Plan, Topology};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let topology = Topology::new(&Plan::default())?;
//! let authority = Authority::new("Testbed CA")?;
//! let identity = authority.issue(&["exchange.test"], Validity::Now)?;
//! let config = Config {
//!     security: Security::Tls(Tls::new(identity)),
//!     feed: Feed::Synthetic(SyntheticPlan::default()),
//!     count: Some(10_000),
//!     ..Config::default()
//! };
//! let running = Exchange::start(config, topology.exchange.ns.listen(topology.exchange.v4(0))?)?;
//! // A program on the client's machine: it sees the client's interface only, and dies with this thread.
//! let client = topology.client.ns.command("some-client").arg(running.address().to_string()).status()?;
//! assert!(client.success());
//! assert!(running.stop().errors().is_empty());
//! # Ok(())
//! # }
//! ```

pub mod capture;
pub mod client;
pub mod exchange;
pub mod feeds;
pub mod machine;
pub mod pki;
#[allow(unsafe_code)]
mod sys;
pub mod topology;
pub mod vm;

pub use wiretick_impair as impair;
