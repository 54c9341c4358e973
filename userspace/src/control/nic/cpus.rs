//! Sets of CPUs as the kernel writes them: `0-3,8`.

use std::collections::BTreeSet;
use std::fmt;

/// Some of the machine's CPUs, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cpus(BTreeSet<usize>);

/// The largest number that is taken for one: more than `CONFIG_NR_CPUS` of any kernel. Without a bound, a line of nonsense
/// would fill the memory.
const NUMBER_MAX: usize = 1 << 16;

impl Cpus {
    /// Reads a list of numbers and ranges; an empty line is the empty set. `None` where it is not such a list.
    #[must_use]
    pub fn parse(list: &str) -> Option<Self> {
        let mut cpus = BTreeSet::new();
        for part in list.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if first > last || last > NUMBER_MAX {
                return None;
            }
            cpus.extend(first..=last);
        }
        Some(Self(cpus))
    }

    /// Whether it has this one.
    #[must_use]
    pub fn contains(&self, cpu: usize) -> bool {
        self.0.contains(&cpu)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Their numbers, in order.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.0.iter().copied()
    }
}

impl FromIterator<usize> for Cpus {
    fn from_iter<I: IntoIterator<Item = usize>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl fmt::Display for Cpus {
    /// As the kernel writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.iter().copied().peekable();
        let mut comma = "";
        while let Some(first) = rest.next() {
            let mut last = first;
            while rest.next_if_eq(&(last + 1)).is_some() {
                last += 1;
            }
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_and_written_as_the_kernel_does() {
        for list in ["", "0", "0-3", "0-3,8", "1,3,5-7"] {
            assert_eq!(Cpus::parse(list).unwrap().to_string(), list);
        }
        let cpus = Cpus::parse("0-3,8\n").unwrap();
        assert_eq!((cpus.len(), cpus.contains(2), cpus.contains(4)), (5, true, false));
        assert_eq!(cpus.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 8]);
        assert!(Cpus::parse("").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for list in ["(null)", "3-1", "a", "1-", "0-99999999999", "0-9999999"] {
            assert_eq!(Cpus::parse(list), None, "{list}");
        }
    }
}
