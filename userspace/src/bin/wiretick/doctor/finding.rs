//! What the doctor says: one finding for each check, and all of them together.

use std::fmt;

use serde::Serialize;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but costs time or certainty.
    Warn,
    /// It does not work, or not in a mode that this machine could have.
    Fail,
}

impl Verdict {
    /// The exit code that goes with it.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warn => 1,
            Self::Fail => 2,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One check's result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Which check. The names are part of the interface.
    pub(crate) check: &'static str,
    /// How bad it is.
    pub(crate) verdict: Verdict,
    /// What there is.
    pub(crate) found: String,
    /// What that means, for latency above all; empty where there is nothing to say.
    pub(crate) means: String,
    /// The command that mends it, or shows more; where there is one.
    pub(crate) command: Option<String>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { check, verdict, found: found.into(), means: String::new(), command: None }
    }

    pub(crate) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, found)
    }

    pub(crate) fn warn(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warn, found)
    }

    pub(crate) fn fail(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Fail, found)
    }

    pub(crate) fn means(mut self, means: impl Into<String>) -> Self {
        self.means = means.into();
        self
    }

    pub(crate) fn command(mut self, command: impl Into<String>) -> Self {
        self.command = Some(command.into());
        self
    }
}

/// One line.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:4}  {:20}  {}", self.verdict, self.check, self.found)?;
        if !self.means.is_empty() {
            write!(f, "; {}", self.means)?;
        }
        if let Some(command) = &self.command {
            write!(f, "  => {command}")?;
        }
        Ok(())
    }
}

/// Everything that `--json` writes. Field names are part of the interface; `schema` grows when one changes its meaning or goes away.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: u32,
    pub(crate) version: &'static str,
    /// The interface that was looked at: the one that receives.
    pub(crate) interface: Option<String>,
    /// The peer, as it was named.
    pub(crate) host: Option<String>,
    /// The worst of all verdicts.
    pub(crate) verdict: Verdict,
    pub(crate) checks: Vec<Finding>,
}

impl Report {
    pub(crate) fn new(interface: Option<String>, host: Option<String>, checks: Vec<Finding>) -> Self {
        let verdict = checks.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok);
        Self { schema: 1, version: env!("CARGO_PKG_VERSION"), interface, host, verdict, checks }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.checks {
            writeln!(f, "{finding}")?;
        }
        let count = |verdict| self.checks.iter().filter(|finding| finding.verdict == verdict).count();
        write!(
            f,
            "{}: {} fail, {} warn, {} ok",
            self.verdict,
            count(Verdict::Fail),
            count(Verdict::Warn),
            count(Verdict::Ok)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(verdicts: &[Verdict]) -> Report {
        let checks = verdicts.iter().map(|verdict| Finding::new("kernel", *verdict, "x")).collect();
        Report::new(Some("eth0".to_owned()), None, checks)
    }

    #[test]
    fn the_worst_finding_is_the_verdict_and_the_exit_code() {
        use Verdict::{Fail, Ok, Warn};
        for (verdicts, worst, code) in
            [(&[][..], Ok, 0), (&[Ok, Ok], Ok, 0), (&[Ok, Warn, Ok], Warn, 1), (&[Fail, Warn, Ok], Fail, 2)]
        {
            let report = report(verdicts);
            assert_eq!((report.verdict, report.verdict.exit_code()), (worst, code), "{verdicts:?}");
        }
    }

    #[test]
    fn a_finding_is_one_line() {
        let finding =
            Finding::warn("lro", "rx-lro is on").means("segments are merged").command("ethtool -K eth0 lro off");
        assert_eq!(
            finding.to_string(),
            "warn  lro                   rx-lro is on; segments are merged  => ethtool -K eth0 lro off"
        );
        assert_eq!(Finding::ok("lro", "off").to_string(), "ok    lro                   off");
    }

    #[test]
    fn the_json_has_the_fields_that_are_promised() {
        let report = Report::new(
            Some("eth0".to_owned()),
            Some("example.com".to_owned()),
            vec![Finding::fail("mtu", "9001").command("ip link set eth0 mtu 3498")],
        );
        let json = serde_json::to_value(&report).unwrap();
        let expected = serde_json::json!({
            "schema": 1,
            "version": env!("CARGO_PKG_VERSION"),
            "interface": "eth0",
            "host": "example.com",
            "verdict": "fail",
            "checks": [{
                "check": "mtu",
                "verdict": "fail",
                "found": "9001",
                "means": "",
                "command": "ip link set eth0 mtu 3498",
            }],
        });
        assert_eq!(json, expected);
    }
}
