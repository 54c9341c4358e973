//! The proof: frames of a connection of our own, over a ring, in each mode; and the interface compared before and after.
//!
//! What disturbs the traffic of an interface is done only with `--prove`. What can be judged without doing anything is in [`permitted`] and
//! [`judge`], for tests.

use wiretick::control::link;
use wiretick::control::nic::{Nic, feature};
use wiretick::control::tune::presets::{self, Disturbance};
use wiretick::control::tune::{Restored, restore};
use wiretick::feed::Mode;
use wiretick::feed::proof::{self, Proof, Unproven};

use super::DoctorArgs;
use super::facts::{self, Facts};
use super::finding::Finding;

/// The modes, best first, and the names of their checks.
const MODES: [(Mode, &str); 3] =
    [(Mode::ZeroCopy, "proof_zerocopy"), (Mode::Driver, "proof_driver"), (Mode::Skb, "proof_skb")];

/// What came of an attempt: a proof, on which queue; or why there is none.
type Outcome = Result<Proof, Unproven>;

/// Proves each mode that may be tried, and brings the interface back to what it was.
pub(super) fn findings(args: &DoctorArgs, facts: &Facts) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut best = None;
    let mut tried = false;
    for (mode, check) in MODES {
        let finding = match permitted(facts, mode, args.prove) {
            Err(refusal) => refusal.finding(check),
            Ok(()) => {
                tried = true;
                let outcome = attempt(args, facts, mode);
                let finding = judge(check, mode, facts, &outcome, best.is_some());
                if outcome.is_ok() {
                    best = best.or(Some(mode));
                }
                finding
            }
        };
        found.push(finding);
    }
    if let (true, Ok(site)) = (tried, &facts.site) {
        found.push(unchanged(&site.nic));
    }
    found
}

/// Why a mode is not tried.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    reason: String,
    command: Option<String>,
}

impl Refusal {
    fn finding(self, check: &'static str) -> Finding {
        let finding = Finding::warn(check, format!("not proven: {}", self.reason));
        match self.command {
            Some(command) => finding.command(command),
            None => finding,
        }
    }
}

/// Whether a mode may be tried: whether there is a connection to try it with, and nobody who would be disturbed without having said yes.
fn permitted(facts: &Facts, mode: Mode, prove: bool) -> Result<(), Refusal> {
    let refused = |reason: String, command: Option<String>| Err(Refusal { reason, command });
    let site = match &facts.site {
        Ok(site) => site,
        Err(error) => return refused(error.clone(), None),
    };
    let nic = &site.nic;
    let again = |option: &str| Some(format!("wiretick doctor --interface {} {option}", site.leaves.name));
    let Some(peer) = &facts.peer else {
        return refused("it takes a TCP connection: name a peer".to_owned(), again("--host HOST[:PORT]"));
    };
    if !matches!(peer.connected, Some(Ok(_))) {
        return refused(format!("there is no connection to {}", peer.name), None);
    }
    if let Some(owner) = &site.program {
        return refused(format!("the interface has a program already ({owner})"), None);
    }
    if prove {
        return Ok(());
    }
    let prove = format!("--host {} --prove", peer.name);
    if mode == Mode::Skb {
        // Generic XDP switches both off, and they stay off.
        return match [feature::LRO, feature::GRO_HW].into_iter().find(|name| nic.is_on(name)) {
            Some(name) => refused(
                format!("attaching would switch {name} off; with --prove it is switched on again afterwards"),
                again(&prove),
            ),
            None => Ok(()),
        };
    }
    // Of what the driver does not have, it is not asked: the kernel refuses by itself.
    let asks_driver = nic.xdp.is_none_or(|xdp| if mode == Mode::ZeroCopy { xdp.zero_copy } else { xdp.native });
    match presets::disturbance(&nic.driver.name) {
        Disturbance::None => Ok(()),
        _ if !asks_driver => Ok(()),
        Disturbance::Traffic => refused(
            "attaching stops all traffic of the interface for some milliseconds, twice".to_owned(),
            again(&prove),
        ),
        Disturbance::Link => {
            let known = presets::of(&nic.driver.name).is_some();
            let takes = if known { "takes" } else { "may take (nobody has looked at this driver)" };
            refused(format!("attaching {takes} the link down for seconds, twice"), again(&prove))
        }
    }
}

/// Tries a mode with a connection of its own; where the flow arrives on another queue, there once more with the same one.
fn attempt(args: &DoctorArgs, facts: &Facts, mode: Mode) -> Outcome {
    let unproven = |reason| Unproven { reason, arrives_on: None, malformed: 0 };
    let addresses = facts.peer.as_ref().and_then(|peer| peer.addresses.clone().ok()).unwrap_or_default();
    let (stream, _) = facts::dial(args, &addresses).map_err(unproven)?;
    let once = |queue: u32| {
        let stream = stream.try_clone().map_err(|error| unproven(error.to_string()))?;
        proof::prove(stream, mode, queue)
    };
    match once(facts.queue) {
        Err(Unproven { arrives_on: Some(queue), .. }) => once(queue),
        other => other,
    }
}

/// What an attempt means. `better` has been proven before, or not.
fn judge(check: &'static str, mode: Mode, facts: &Facts, outcome: &Outcome, better: bool) -> Finding {
    match outcome {
        Ok(proof) => {
            let mut found = format!(
                "proven on {} queue {}: a probe was answered over the ring within {:.0} us; {} frames redirected, {} received",
                proof.interface,
                proof.queue,
                proof.round_trip.as_secs_f64() * 1e6,
                proof.redirected,
                proof.ring.frames_received
            );
            if proof.zero_copy {
                found.push_str("; the kernel confirms zero-copy (XDP_OPTIONS)");
            }
            if proof.queue == facts.queue {
                return Finding::ok(check, found);
            }
            Finding::warn(check, found)
                .means(format!(
                    "this flow arrived there, and not on queue {}; another port, another queue",
                    facts.queue
                ))
                .command(format!("wiretick stream --queue {} ...", proof.queue))
        }
        Err(unproven) => {
            let mut reason = unproven.reason.clone();
            if unproven.malformed != 0 {
                reason.push_str(&format!(
                    "; {} frames came with a checksum that is wrong: the other end of a veth leaves it blank (ethtool -K PEER tx off)",
                    unproven.malformed
                ));
            }
            let predicted = facts.site.as_ref().ok().and_then(|site| site.nic.xdp).is_some_and(|xdp| match mode {
                Mode::ZeroCopy => !xdp.zero_copy,
                Mode::Driver => !xdp.native,
                _ => false,
            });
            if predicted {
                return Finding::warn(check, format!("refused, as the driver has told: {reason}"));
            }
            if better {
                return Finding::warn(check, format!("not to be had: {reason}")).means("a better mode is");
            }
            Finding::fail(check, format!("not to be had: {reason}"))
        }
    }
}

/// Compares the interface with what it was, and brings it back.
fn unchanged(before: &Nic) -> Finding {
    const CHECK: &str = "unchanged";
    let look = || {
        let link = link::by_name(&before.name)?;
        let Restored { changed, stuck } = restore(&link, before)?;
        Ok::<_, wiretick::control::Error>((changed, stuck, Nic::read(&link::by_name(&before.name)?)?, link.xdp_program))
    };
    match look() {
        Err(error) => Finding::fail(CHECK, error.to_string()).means("whether the interface is as it was is not known"),
        Ok((changed, stuck, after, program)) => {
            let commands = |changes: &mut dyn Iterator<Item = String>| changes.collect::<Vec<_>>().join("; ");
            if let Some(program) = program {
                return Finding::fail(CHECK, format!("program {program} is on the interface, which had none"));
            }
            if !stuck.is_empty() {
                let what: Vec<_> =
                    stuck.iter().map(|(change, reason)| format!("{}: {reason}", change.setting)).collect();
                return Finding::fail(
                    CHECK,
                    format!("attaching has changed, and it cannot be changed back: {}", what.join(", ")),
                )
                .command(commands(&mut stuck.iter().map(|(change, _)| change.command(&before.name))));
            }
            if after.rss != before.rss {
                return Finding::fail(CHECK, "attaching has changed the RSS table")
                    .means("other flows arrive on other queues than before")
                    .command(format!("ethtool -X {} default", before.name));
            }
            if !changed.is_empty() {
                let what: Vec<_> = changed.iter().map(|change| change.setting.to_string()).collect();
                return Finding::ok(CHECK, format!("attaching has changed {}; it is changed back", what.join(", ")));
            }
            Finding::ok(CHECK, "no program, and every setting as it was")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wiretick::control::nic::{Feature, XdpFeatures};
    use wiretick::ring::RingCounters;

    use super::super::checks::tests::healthy;
    use super::super::finding::Verdict;
    use super::*;

    fn on(driver: &str) -> Facts {
        let mut facts = healthy();
        facts.site.as_mut().unwrap().nic.driver.name = driver.to_owned();
        facts
    }

    fn proof(queue: u32) -> Proof {
        Proof {
            mode: Mode::Driver,
            interface: "eth0".to_owned(),
            queue,
            round_trip: Duration::from_micros(92),
            attaching: Duration::from_millis(3),
            redirected: 2,
            ring: RingCounters { frames_received: 2, ..RingCounters::default() },
            zero_copy: false,
            huge_pages: false,
            napi: None,
        }
    }

    fn unproven(reason: &str) -> Unproven {
        Unproven { reason: reason.to_owned(), arrives_on: None, malformed: 0 }
    }

    #[test]
    fn what_disturbs_nobody_is_tried_and_the_rest_only_if_asked_for() {
        for mode in [Mode::ZeroCopy, Mode::Driver, Mode::Skb] {
            assert_eq!(permitted(&on("veth"), mode, false), Ok(()));
        }
        for (driver, words) in
            [("ena", "some milliseconds"), ("igb", "link down for seconds"), ("unheard_of", "nobody has looked")]
        {
            let refusal = permitted(&on(driver), Mode::Driver, false).unwrap_err();
            assert!(refusal.reason.contains(words), "{refusal:?}");
            assert_eq!(
                refusal.command.as_deref(),
                Some("wiretick doctor --interface eth0 --host feed.example --prove")
            );
            assert_eq!(permitted(&on(driver), Mode::Driver, true), Ok(()));
            assert_eq!(permitted(&on(driver), Mode::Skb, false), Ok(()), "generic XDP asks no driver");
        }
    }

    #[test]
    fn what_the_kernel_refuses_by_itself_disturbs_nobody() {
        let mut facts = on("e1000e");
        facts.site.as_mut().unwrap().nic.xdp = Some(XdpFeatures::default());
        assert_eq!(permitted(&facts, Mode::Driver, false), Ok(()));
        assert_eq!(permitted(&facts, Mode::ZeroCopy, false), Ok(()));
    }

    #[test]
    fn generic_xdp_is_not_tried_where_it_would_switch_something_off() {
        let mut facts = on("e1000e");
        let features = &mut facts.site.as_mut().unwrap().nic.features;
        features.insert(feature::LRO.to_owned(), Feature { on: true, changeable: true });
        let refusal = permitted(&facts, Mode::Skb, false).unwrap_err();
        assert!(refusal.reason.contains("rx-lro"), "{refusal:?}");
        assert_eq!(permitted(&facts, Mode::Skb, true), Ok(()));
    }

    #[test]
    fn without_a_connection_nothing_is_proven_and_that_is_said() {
        let mut facts = on("veth");
        facts.peer = None;
        let finding = permitted(&facts, Mode::Driver, true).unwrap_err().finding("proof_driver");
        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(finding.to_string().contains("--host HOST[:PORT]"), "{finding}");
        let mut facts = on("veth");
        facts.peer.as_mut().unwrap().connected = Some(Err("refused".to_owned()));
        assert!(permitted(&facts, Mode::Driver, true).unwrap_err().reason.contains("no connection"));
        let mut facts = on("veth");
        facts.site.as_mut().unwrap().program = Some("program 7".to_owned());
        assert!(permitted(&facts, Mode::Driver, true).unwrap_err().reason.contains("program 7"));
    }

    #[test]
    fn an_outcome_is_judged_by_what_was_to_be_expected() {
        let facts = on("ice");
        let verdict = |mode, outcome: Outcome, better| judge("proof", mode, &facts, &outcome, better).verdict;
        assert_eq!(verdict(Mode::Driver, Ok(proof(0)), false), Verdict::Ok);
        assert_eq!(verdict(Mode::Driver, Ok(proof(3)), false), Verdict::Warn, "on another queue than was asked for");
        assert_eq!(verdict(Mode::ZeroCopy, Err(unproven("EINVAL")), false), Verdict::Fail, "the driver offers it");
        assert_eq!(verdict(Mode::Skb, Err(unproven("GRO")), true), Verdict::Warn, "nobody needs it");
        assert_eq!(verdict(Mode::Skb, Err(unproven("GRO")), false), Verdict::Fail);
        let mut without = on("veth");
        without.site.as_mut().unwrap().nic.xdp =
            Some(XdpFeatures { native: true, redirect: true, ..XdpFeatures::default() });
        let finding = judge("proof", Mode::ZeroCopy, &without, &Err(unproven("EOPNOTSUPP")), false);
        assert_eq!(finding.verdict, Verdict::Warn, "it was told before");
        assert!(finding.found.contains("as the driver has told"), "{finding}");
    }

    #[test]
    fn blank_checksums_are_named() {
        let outcome = Err(Unproven { malformed: 4, ..unproven("no frame of the flow reached the ring") });
        let finding = judge("proof", Mode::Driver, &on("veth"), &outcome, false);
        assert!(finding.found.contains("4 frames") && finding.found.contains("tx off"), "{finding}");
    }
}
