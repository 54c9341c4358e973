//! The clients that people use today, as far as they are installed: what `benches/peers/install` left behind.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::contender::Contender;

/// Written by `benches/peers/install`.
pub(crate) const LIST: &str = "benches/peers/.build/available.json";

#[derive(Debug, Deserialize)]
struct Available {
    name: String,
    argv: Vec<String>,
    #[serde(default)]
    versions: BTreeMap<String, String>,
    /// What it does while nothing arrives: `sleeps`, unless told otherwise, or `spins`.
    #[serde(default)]
    waits: String,
}

/// All peers of the list, and beside those that sleep the same with `--busy-poll`, and Boost.Beast on a core that is kept
/// awake.
pub(crate) fn available(list: &Path) -> Result<Vec<Contender>, Box<dyn Error>> {
    let named = |error: &dyn Error| format!("{}: {error}", list.display());
    let text = fs::read(list).map_err(|error| named(&error))?;
    let peers: Vec<Available> = serde_json::from_slice(&text).map_err(|error| named(&error))?;
    // Where a peer has a spinning form of its own, the switch would only make it a second time.
    let has_twin = |name: &str| peers.iter().any(|peer| peer.name == format!("{name}-spin"));
    let mut contenders = Vec::new();
    for peer in &peers {
        let Some(contender) = Contender::peer(&peer.name, &peer.argv, peer.versions.clone()) else { continue };
        contenders.push(contender.clone());
        if peer.name == BEAST {
            contenders.push(contender.clone().on_awake_core(BEAST_AWAKE));
        }
        if peer.waits == "sleeps" && !has_twin(&peer.name) {
            contenders.push(contender.with("--busy-poll", &format!("{} spinning", peer.name)));
        }
    }
    Ok(contenders)
}

/// Names that goals speak of.
pub(crate) const BEAST: &str = "beast";
pub(crate) const BEAST_AWAKE: &str = "beast, core awake";
pub(crate) const PYTHON: &str = "python-websockets";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_sleep_have_a_spinning_twin_each() {
        let folder = tempfile::tempdir().unwrap();
        let list = folder.path().join("available.json");
        let peer = |name: &str, waits: &str| serde_json::json!({"name": name, "argv": ["/x"], "waits": waits, "versions": {"v": "1"}});
        let peers = [peer("picows", "sleeps"), peer("beast", "sleeps"), peer("beast-spin", "spins")];
        fs::write(&list, serde_json::to_vec(&peers).unwrap()).unwrap();
        let names: Vec<_> = available(&list).unwrap().into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["picows", "picows spinning", "beast", "beast, core awake", "beast-spin"]);
    }

    #[test]
    fn a_list_that_is_not_there_is_named() {
        assert!(available(Path::new("/nowhere/x.json")).unwrap_err().to_string().starts_with("/nowhere/x.json: "));
    }
}
