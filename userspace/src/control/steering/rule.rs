//! One flow's rule in the NIC ("ntuple"): its exact 5-tuple goes to one queue, whatever RSS would say.
//!
//! [`place`] puts a rule into a [`RuleStore`] and reads it back; [`withdraw`] takes it out, if it is still the same rule. A driver's
//! word is no proof: some take a rule and do nothing (igb in QEMU), so whoever places one counts frames afterwards.
//!
//! No driver that was at hand takes these rules: what is here was tested against the layout of the interface and against a store in
//! memory, and is not verified on hardware.

use std::fmt;
use std::io;

use super::ethtool;
use crate::floor::FourTuple;

/// Which queue the frames of one flow go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowRule {
    /// The flow, seen from our end.
    pub tuple: FourTuple,
    /// The id of the VLAN tag its frames must have; any or none where there is none.
    pub vlan: Option<u16>,
    /// The queue.
    pub queue: u32,
}

impl FlowRule {
    /// Whether `other` sends the same flow to the same queue. Drivers may leave the VLAN out.
    fn does_the_same_as(&self, other: &Self) -> bool {
        (self.tuple, self.queue) == (other.tuple, other.queue)
            && (other.vlan.is_none() || self.vlan.is_none() || self.vlan == other.vlan)
    }
}

impl fmt::Display for FlowRule {
    /// As for `ethtool -N`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tuple: FourTuple { local, remote }, vlan, queue } = self;
        let flow = if local.is_ipv6() { "tcp6" } else { "tcp4" };
        write!(
            f,
            "flow-type {flow} src-ip {} dst-ip {} src-port {} dst-port {}",
            remote.ip(),
            local.ip(),
            remote.port(),
            local.port()
        )?;
        if let Some(vlan) = vlan {
            write!(f, " vlan {vlan:#x} vlan-mask 0xf000")?;
        }
        write!(f, " action {queue}")
    }
}

/// A table of rules, as a driver keeps one.
pub trait RuleStore: fmt::Debug + Send {
    /// Whether the store chooses locations itself.
    ///
    /// # Errors
    ///
    /// What the driver answered: `EOPNOTSUPP` where it has no rules.
    fn chooses_locations(&self) -> io::Result<bool>;

    /// The locations that are taken, and how many there are in all; 0 where that is not known.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    fn locations(&self) -> io::Result<(Vec<u32>, u32)>;

    /// The rule at a location, where it is one for a single TCP flow.
    ///
    /// # Errors
    ///
    /// What the driver answered: `ENOENT` or `EINVAL` where there is none.
    fn rule(&self, location: u32) -> io::Result<Option<FlowRule>>;

    /// Inserts a rule at a location; at any, where none is given. Answers where it is.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    fn insert(&self, rule: &FlowRule, location: Option<u32>) -> io::Result<u32>;

    /// Deletes whatever is at a location.
    ///
    /// # Errors
    ///
    /// What the driver answered.
    fn delete(&self, location: u32) -> io::Result<()>;
}

/// The rules of an interface.
#[derive(Clone, Debug)]
pub struct DriverRules {
    interface: String,
}

impl DriverRules {
    /// Those of the interface with this name.
    #[must_use]
    pub fn of(interface: &str) -> Self {
        Self { interface: interface.to_owned() }
    }
}

impl RuleStore for DriverRules {
    fn chooses_locations(&self) -> io::Result<bool> {
        ethtool::rule_table(&self.interface).map(|table| table.chooses)
    }

    fn locations(&self) -> io::Result<(Vec<u32>, u32)> {
        ethtool::rule_locations(&self.interface)
    }

    fn rule(&self, location: u32) -> io::Result<Option<FlowRule>> {
        ethtool::rule(&self.interface, location)
    }

    fn insert(&self, rule: &FlowRule, location: Option<u32>) -> io::Result<u32> {
        ethtool::insert_rule(&self.interface, rule, location.unwrap_or(ethtool::ANY_LOCATION))
    }

    fn delete(&self, location: u32) -> io::Result<()> {
        ethtool::delete_rule(&self.interface, location)
    }
}

/// Why a flow has no rule.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The driver has no rules at all.
    #[error("the driver has no flow rules ({0})")]
    NoRules(io::Error),
    /// It has some, but not for this.
    #[error("the driver takes no rule for one TCP flow over {family} ({source})")]
    NotSuch {
        /// IPv4 or IPv6.
        family: &'static str,
        /// What it answered.
        source: io::Error,
    },
    /// There is no room.
    #[error("all {0} places for flow rules are taken: ethtool -n IF lists them")]
    Full(u32),
    /// This thread may not.
    #[error("inserting a flow rule needs CAP_NET_ADMIN (run as root)")]
    NotPermitted,
    /// It was taken and is not there, or not as it should be.
    #[error("the driver took rule {location} and shows {shown} there")]
    NotThere {
        /// Where it should be.
        location: u32,
        /// What is there.
        shown: String,
    },
    /// Anything else.
    #[error("the flow rule was refused: {0}")]
    Refused(io::Error),
}

/// Inserts a rule, reads it back, and answers where it is and as what. Nobody else may be choosing locations meanwhile: drivers
/// overwrite what is at a location ([`super::lease::Leases`] sees to it, among processes of this program).
///
/// With a VLAN, a rule that names it is tried first, then one without: some drivers cannot match tags, and then match whatever the
/// tag.
///
/// # Errors
///
/// [`RuleError`]; nothing is left behind then.
pub fn place(store: &dyn RuleStore, rule: &FlowRule) -> Result<(u32, FlowRule), RuleError> {
    let location = match store.chooses_locations() {
        Ok(true) => None,
        Ok(false) => Some(free_location(store)?),
        Err(error) => return Err(RuleError::NoRules(error)),
    };
    let untagged = FlowRule { vlan: None, ..*rule };
    let mut variants = vec![*rule];
    if rule.vlan.is_some() {
        variants.push(untagged);
    }
    let mut refusal = None;
    for variant in variants {
        match store.insert(&variant, location) {
            Ok(location) => return confirm(store, &variant, location).map(|()| (location, variant)),
            Err(error) => refusal = Some(error),
        }
    }
    Err(refused(rule, refusal.unwrap_or_else(|| io::ErrorKind::Unsupported.into())))
}

/// Looks whether the rule is where it should be; takes out what is there where it is not as it should be.
fn confirm(store: &dyn RuleStore, rule: &FlowRule, location: u32) -> Result<(), RuleError> {
    let shown = match store.rule(location) {
        Ok(Some(found)) if found.does_the_same_as(rule) => return Ok(()),
        Ok(Some(found)) => found.to_string(),
        Ok(None) => "another kind of rule".to_owned(),
        Err(error) => format!("none ({error})"),
    };
    // It was free a moment ago, so whatever is there came by this insertion.
    if let Err(error) = store.delete(location) {
        log::debug!("rule {location} cannot be deleted: {error}");
    }
    Err(RuleError::NotThere { location, shown })
}

/// The lowest one: of rules that match the same frame the lowest wins, and one flow's exact rule takes nothing from wider ones.
fn free_location(store: &dyn RuleStore) -> Result<u32, RuleError> {
    let (taken, size) = store.locations().map_err(RuleError::NoRules)?;
    (0..size).find(|location| !taken.contains(location)).ok_or(RuleError::Full(size))
}

fn refused(rule: &FlowRule, error: io::Error) -> RuleError {
    let family = if rule.tuple.local.is_ipv6() { "IPv6" } else { "IPv4" };
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => RuleError::NotPermitted,
        Some(libc::EINVAL | libc::EOPNOTSUPP | libc::EPROTONOSUPPORT) => RuleError::NotSuch { family, source: error },
        _ => RuleError::Refused(error),
    }
}

/// What has become of a rule.
#[derive(Debug, PartialEq, Eq)]
pub enum Withdrawn {
    /// It was deleted.
    Deleted,
    /// It was not there any more, or another one was.
    Gone,
}

/// Deletes the rule at a location, where it still is this one: nobody else's is touched.
///
/// # Errors
///
/// What the driver answered to the deletion.
pub fn withdraw(store: &dyn RuleStore, rule: &FlowRule, location: u32) -> io::Result<Withdrawn> {
    match store.rule(location) {
        Ok(Some(found)) if found.does_the_same_as(rule) => store.delete(location).map(|()| Withdrawn::Deleted),
        Ok(_) => Ok(Withdrawn::Gone),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(Withdrawn::Gone),
        Err(error) => Err(error),
    }
}

/// Whether the rule is still at its location.
#[must_use]
pub fn is_at(store: &dyn RuleStore, rule: &FlowRule, location: u32) -> bool {
    matches!(store.rule(location), Ok(Some(found)) if found.does_the_same_as(rule))
}

/// Where a rule is, if it is anywhere: for who knows that it may have been inserted, and not where.
///
/// # Errors
///
/// What the driver answered.
pub fn find(store: &dyn RuleStore, rule: &FlowRule) -> io::Result<Option<u32>> {
    let (locations, _) = store.locations()?;
    let same = |location: &u32| is_at(store, rule, *location);
    Ok(locations.into_iter().find(same))
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use super::*;

    /// A driver in memory, with the failings of real ones.
    #[derive(Debug, Default)]
    pub(in super::super) struct Memory {
        pub(in super::super) rules: RefCell<BTreeMap<u32, Option<FlowRule>>>,
        pub(in super::super) size: u32,
        /// It chooses locations itself, from the top.
        pub(in super::super) chooses: bool,
        /// It refuses rules with a VLAN.
        pub(in super::super) no_vlan: bool,
        /// It says yes and does nothing.
        pub(in super::super) lies: bool,
        /// It answers everything with this error.
        pub(in super::super) error: Option<i32>,
        /// It takes every rule for this queue.
        pub(in super::super) other_queue: Option<u32>,
    }

    impl Memory {
        pub(in super::super) fn with(size: u32) -> Self {
            Self { size, ..Self::default() }
        }
    }

    impl RuleStore for Memory {
        fn chooses_locations(&self) -> io::Result<bool> {
            Ok(self.chooses)
        }

        fn locations(&self) -> io::Result<(Vec<u32>, u32)> {
            Ok((self.rules.borrow().keys().copied().collect(), self.size))
        }

        fn rule(&self, location: u32) -> io::Result<Option<FlowRule>> {
            self.rules.borrow().get(&location).copied().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
        }

        fn insert(&self, rule: &FlowRule, location: Option<u32>) -> io::Result<u32> {
            if let Some(error) = self.error {
                return Err(io::Error::from_raw_os_error(error));
            }
            if self.no_vlan && rule.vlan.is_some() {
                return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
            }
            let mut rules = self.rules.borrow_mut();
            let location = location
                .unwrap_or_else(|| (0..self.size).rev().find(|location| !rules.contains_key(location)).expect("room"));
            if !self.lies {
                let queue = self.other_queue.unwrap_or(rule.queue);
                rules.insert(location, Some(FlowRule { queue, ..*rule }));
            }
            Ok(location)
        }

        fn delete(&self, location: u32) -> io::Result<()> {
            match self.rules.borrow_mut().remove(&location) {
                Some(_) => Ok(()),
                None => Err(io::Error::from_raw_os_error(libc::ENOENT)),
            }
        }
    }

    pub(in super::super) fn example(port: u16) -> FlowRule {
        let tuple = FourTuple { local: ([192, 0, 2, 1], port).into(), remote: ([198, 51, 100, 7], 443).into() };
        FlowRule { tuple, vlan: None, queue: 3 }
    }

    #[test]
    fn a_rule_takes_the_lowest_free_place() {
        let store = Memory::with(4);
        store.rules.borrow_mut().insert(0, None);
        store.rules.borrow_mut().insert(2, Some(example(1)));
        assert_eq!(place(&store, &example(40_000)).unwrap(), (1, example(40_000)));
        assert_eq!(place(&store, &example(40_001)).unwrap().0, 3);
        let error = place(&store, &example(40_002)).unwrap_err();
        assert!(matches!(error, RuleError::Full(4)), "{error}");
        assert_eq!(store.rules.borrow().len(), 4, "and nobody's was overwritten");
    }

    #[test]
    fn a_driver_that_chooses_places_is_left_to_it() {
        let store = Memory { chooses: true, ..Memory::with(8) };
        assert_eq!(place(&store, &example(40_000)).unwrap().0, 7);
    }

    #[test]
    fn a_driver_that_knows_no_vlans_gets_a_rule_without() {
        let tagged = FlowRule { vlan: Some(7), ..example(40_000) };
        let store = Memory { no_vlan: true, ..Memory::with(4) };
        assert_eq!(place(&store, &tagged).unwrap(), (0, example(40_000)));
        assert_eq!(place(&Memory::with(4), &tagged).unwrap(), (0, tagged));
    }

    #[test]
    fn a_driver_that_lies_is_found_out_by_reading_back() {
        let error = place(&Memory { lies: true, ..Memory::with(4) }, &example(1)).unwrap_err();
        assert!(matches!(error, RuleError::NotThere { .. }), "{error}");
        let other = Memory { other_queue: Some(0), ..Memory::with(4) };
        let error = place(&other, &example(1)).unwrap_err().to_string();
        assert!(error.contains("action 0"), "{error}");
        assert!(other.rules.borrow().is_empty(), "and nothing is left behind");
    }

    #[test]
    fn refusals_say_what_is_missing() {
        for (error, word) in [
            (libc::EPERM, "CAP_NET_ADMIN"),
            (libc::EINVAL, "no rule for one TCP flow over IPv4"),
            (libc::EOPNOTSUPP, "no rule for one TCP flow over IPv4"),
            (libc::ENOSPC, "refused"),
        ] {
            let text = place(&Memory { error: Some(error), ..Memory::with(4) }, &example(1)).unwrap_err().to_string();
            assert!(text.contains(word), "{word:?}: {text}");
        }
    }

    #[test]
    fn only_the_very_rule_is_withdrawn() {
        let store = Memory::with(4);
        let (location, rule) = place(&store, &example(1)).unwrap();
        for other in [example(2), FlowRule { queue: 4, ..example(1) }] {
            assert_eq!(withdraw(&store, &other, location).unwrap(), Withdrawn::Gone);
        }
        assert_eq!(withdraw(&store, &rule, location + 1).unwrap(), Withdrawn::Gone);
        store.rules.borrow_mut().insert(2, None);
        assert_eq!(withdraw(&store, &rule, 2).unwrap(), Withdrawn::Gone, "another kind of rule");
        assert_eq!(store.rules.borrow().len(), 2);
        assert_eq!(find(&store, &rule).unwrap(), Some(location));
        assert_eq!(withdraw(&store, &rule, location).unwrap(), Withdrawn::Deleted);
        assert_eq!(find(&store, &rule).unwrap(), None);
    }

    #[test]
    fn a_rule_reads_like_the_command_that_inserts_it() {
        assert_eq!(
            FlowRule { vlan: Some(7), ..example(40_000) }.to_string(),
            "flow-type tcp4 src-ip 198.51.100.7 dst-ip 192.0.2.1 src-port 443 dst-port 40000 vlan 0x7 vlan-mask 0xf000 action 3"
        );
    }
}
