//! What can go wrong, each in its own words, on the ring and on the kernel path.

use std::time::Duration;

use wiretick::feed::{Culprit, Feed, Mode, Setup};
use wiretick::floor::Limits;
use wiretick::record::Trust;
use wiretick_testbed::exchange::{Config, Fault, Security, Tls};
use wiretick_testbed::pki::{Authority, Validity};

use crate::Test;
use crate::rig::{AUTHORITY, Rig, identity, synthetic};

pub(crate) const TESTS: &[Test] = &[
    ("failures::each_has_an_error_of_its_own_on_the_ring_and_in_the_kernel", each),
    ("failures::a_certificate_that_is_not_trusted_says_why", certificates),
    ("failures::nobody_listens", nobody),
    ("failures::a_peer_that_resets_in_mid_stream", reset),
];

fn each() {
    // What the exchange does wrong, who is called to account, and words that must be in the error.
    let cases: &[(Fault, Culprit, &[&str])] = &[
        (Fault::SilentTcp, Culprit::Network, &["silent", "TLS handshake"]),
        (Fault::SilentTls, Culprit::Network, &["silent", "WebSocket upgrade"]),
        (Fault::GarbageTls, Culprit::Trust, &["TLS"]),
        (Fault::PlainHttp, Culprit::Trust, &["TLS", "HTTP"]),
        (Fault::Status200, Culprit::Peer, &["200"]),
        (Fault::Status429, Culprit::Peer, &["429"]),
        (Fault::Redirect, Culprit::Peer, &["redirect"]),
        (Fault::WrongAccept, Culprit::Peer, &["Sec-WebSocket-Accept"]),
        (Fault::MaskedFrame, Culprit::Peer, &["masked"]),
        (Fault::BadUtf8, Culprit::Peer, &["UTF-8"]),
        (Fault::Length4Gib, Culprit::Peer, &["--max-message-bytes"]),
        (Fault::Length2pow62, Culprit::Peer, &["--max-message-bytes"]),
        (Fault::Length2pow63, Culprit::Peer, &["length"]),
        (Fault::ReservedBits, Culprit::Peer, &["reserved bits"]),
        (Fault::ReservedOpcode, Culprit::Peer, &["reserved opcode"]),
        (Fault::LongControl, Culprit::Peer, &["125"]),
        (Fault::FragmentedControl, Culprit::Peer, &["fragmented"]),
        (Fault::StrayContinuation, Culprit::Peer, &["continuation"]),
        (Fault::FlippedBit, Culprit::Trust, &["authentication"]),
        (Fault::Rst, Culprit::Network, &["reset"]),
        (Fault::FinWithoutCloseNotify, Culprit::Trust, &["close_notify"]),
        (Fault::CloseWithoutWebsocketClose, Culprit::Network, &["without a WebSocket close"]),
    ];
    for &(fault, culprit, words) in cases {
        for mode in [Mode::Driver, Mode::Kernel] {
            // Late enough that the connection has been promoted when it happens.
            let rig = Rig::new(Config { fault: Some(fault), fault_after: 1_000, ..synthetic(5_000, 5_000) });
            let builder = rig.builder().mode(mode).connect_timeout(Duration::from_millis(700));
            let run = rig.run(builder.limits(Limits { message_bytes_max: 1 << 20, ..Limits::default() }));
            let error = run.error();
            for word in words {
                assert!(error.contains(word), "{fault:?} in {mode}: {word:?} is not in: {error}");
            }
            assert_eq!(run.result.unwrap_err().culprit(), culprit, "{fault:?} in {mode}: {error}");
            rig.await_clean();
        }
    }
}

fn certificates() {
    let wrong_ca = Authority::new("Another CA").unwrap().issue(&["10.77.0.2"], Validity::Now).unwrap();
    let wrong_host = AUTHORITY.issue(&["elsewhere.test"], Validity::Now).unwrap();
    let cases = [
        (wrong_ca, "--ca-file"),
        (wrong_host, "elsewhere.test"),
        (identity(Validity::Past), "expired"),
        (identity(Validity::Future), "not valid yet"),
    ];
    for (identity, word) in cases {
        let rig = Rig::new(Config { security: Security::Tls(Tls::new(identity)), ..synthetic(1_000, 100) });
        for setup in [Setup::Kernel, Setup::Ring] {
            let run = rig.run(rig.builder().mode(Mode::Driver).setup(setup));
            let error = run.error();
            assert!(error.contains(word), "{word:?} is not in: {error}");
            assert_eq!(run.result.unwrap_err().culprit(), Culprit::Trust);
            rig.await_clean();
        }
    }
}

fn nobody() {
    let rig = Rig::new(synthetic(1_000, 100));
    let closed = rig.topology.exchange.v4(1);
    for (mode, setup) in [(Mode::Kernel, Setup::Kernel), (Mode::Driver, Setup::Kernel), (Mode::Driver, Setup::Ring)] {
        let builder = Feed::builder(&format!("wss://{closed}/"))
            .trust(Trust::from_pem(AUTHORITY.pem().as_bytes()).unwrap())
            .mode(mode)
            .setup(setup);
        let run = rig.run(builder);
        let error = run.error();
        assert!(error.contains("refuse"), "{mode} {setup:?}: {error}");
        assert_eq!(run.result.unwrap_err().culprit(), Culprit::Network);
        rig.await_clean();
    }
}

fn reset() {
    for setup in [Setup::Kernel, Setup::Ring] {
        let rig = Rig::new(Config { fault: Some(Fault::Rst), fault_after: 2_000, ..synthetic(10_000, 10_000) });
        let run = rig.run(rig.builder().mode(Mode::Driver).setup(setup));
        assert!(run.error().contains("it has reset the connection"), "{}", run.error());
        // Everything that came before the reset was delivered.
        assert_eq!((run.seen.messages, run.seen.gaps), (2_000, 0));
        rig.await_clean();
    }
}
