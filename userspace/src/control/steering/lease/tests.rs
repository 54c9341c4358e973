//! Leases on a NIC that is a file, which other processes see and which outlives them.

use std::io::Read as _;
use std::process::{Command, Stdio};

use super::super::rule::tests::example;
use super::sweep::sweep_folder;
use super::written::{rule_of, rules_of};
use super::*;
use crate::floor::FourTuple;

/// A NIC whose rules are lines of a file: several processes can see it, and it outlives them.
#[derive(Clone, Debug)]
struct OnDisk(PathBuf);

impl OnDisk {
    fn rules(&self) -> Vec<(u32, FlowRule)> {
        let text = fs::read_to_string(&self.0).unwrap_or_default();
        let rules = text.lines().map(|line| rule_of(&line.split(' ').collect::<Vec<_>>()).unwrap());
        rules.map(|(location, _, rule, _)| (location as u32, rule)).collect()
    }

    fn write(&self, rules: &[(u32, FlowRule)]) {
        let site = Site { netns: 0, index: 0, name: "disk".to_owned() };
        let lines = rules.iter().map(|(location, rule)| rule_line((*location).into(), &site, rule) + "\n");
        fs::write(&self.0, lines.collect::<String>()).unwrap();
    }
}

impl RuleStore for OnDisk {
    fn chooses_locations(&self) -> io::Result<bool> {
        Ok(false)
    }

    fn locations(&self) -> io::Result<(Vec<u32>, u32)> {
        // Slow enough that two processes which do not wait for each other see the same places free.
        let rules = self.rules();
        thread::sleep(Duration::from_millis(20));
        Ok((rules.iter().map(|(location, _)| *location).collect(), 64))
    }

    fn rule(&self, location: u32) -> io::Result<Option<FlowRule>> {
        let found = self.rules().into_iter().find(|(other, _)| *other == location);
        found.map(|(_, rule)| Some(rule)).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// Overwrites what is there, as drivers do.
    fn insert(&self, rule: &FlowRule, location: Option<u32>) -> io::Result<u32> {
        let location = location.unwrap();
        let mut rules = self.rules();
        rules.retain(|(other, _)| *other != location);
        rules.push((location, *rule));
        self.write(&rules);
        Ok(location)
    }

    fn delete(&self, location: u32) -> io::Result<()> {
        let mut rules = self.rules();
        rules.retain(|(other, _)| *other != location);
        self.write(&rules);
        Ok(())
    }
}

struct Scene {
    _folder: tempfile::TempDir,
    leases: PathBuf,
    nic: OnDisk,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { leases: folder.path().join("leases"), nic: OnDisk(folder.path().join("nic")), _folder: folder }
    }

    fn insert(&self, leases: &Leases, port: u16) -> Rule {
        leases.insert(Box::new(self.nic.clone()), site(), &example(port)).unwrap()
    }

    fn sweep(&self) -> usize {
        sweep_folder(&self.leases, &|_| Some(Box::new(self.nic.clone())))
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.leases).into_iter().flatten();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(ENDING)).collect()
    }

    /// Another process that inserts rules and waits; see [`the_other_process`].
    fn process(&self, ports: &[u16], how: &str) -> process::Child {
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        let name = format!("{}::the_other_process", module_path!().split_once("::").unwrap().1);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--ignored", "--nocapture", "--test-threads=1"])
            .env("WIRETICK_TEST_LEASES", &self.leases)
            .env("WIRETICK_TEST_NIC", &self.nic.0)
            .env("WIRETICK_TEST_PORTS", ports.join(" "))
            .env("WIRETICK_TEST_HOW", how)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It says when it is ready.
        let mut said = String::new();
        let mut byte = [0];
        while !said.contains("ready\n") {
            assert_eq!(child.stdout.as_mut().unwrap().read(&mut byte).unwrap(), 1, "it said: {said}");
            said.push(byte[0].into());
        }
        child
    }
}

fn site() -> Site {
    Site::here(1, "disk").unwrap()
}

/// Not a test: what [`Scene::process`] runs.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn the_other_process() {
    let variable = |name| std::env::var(name).unwrap_or_else(|_| panic!("{name}: run by other tests"));
    let leases = Leases::new(Path::new(&variable("WIRETICK_TEST_LEASES")));
    let nic = OnDisk(variable("WIRETICK_TEST_NIC").into());
    let how = variable("WIRETICK_TEST_HOW");
    let mut rules = Vec::new();
    for port in variable("WIRETICK_TEST_PORTS").split(' ') {
        let rule = example(port.parse().unwrap());
        if how == "half" {
            // As if killed between the insertion and the note of its place.
            let mut book = leases.book();
            book.open();
            book.note(&rule_line(0, &site(), &rule));
            nic.insert(&rule, Some(9)).unwrap();
        } else {
            rules.push(leases.insert(Box::new(nic.clone()), site(), &rule).unwrap());
        }
    }
    println!("ready");
    // Until the test closes its end, or kills us.
    let _ = io::stdin().read(&mut [0]);
}

#[test]
fn a_rule_ends_with_its_owner_and_so_does_the_file() {
    let scene = Scene::new();
    let leases = Leases::new(&scene.leases);
    let (first, second) = (scene.insert(&leases, 1), scene.insert(&leases, 2));
    assert_eq!((first.location(), second.location()), (0, 1));
    assert!(first.is_there() && second.is_there());
    assert_eq!(scene.files().len(), 1);
    drop(first);
    assert_eq!(scene.nic.rules(), [(1, example(2))]);
    assert_eq!(scene.sweep(), 0, "the owner lives");
    assert!(second.is_there());
    drop((second, leases));
    assert_eq!(scene.nic.rules(), []);
    assert_eq!(scene.files(), [""; 0]);
}

#[test]
fn after_kill_9_the_next_start_withdraws_the_rules_and_nobody_elses() {
    let scene = Scene::new();
    scene.nic.write(&[(0, example(60_000))]);
    let mut child = scene.process(&[1, 2], "whole");
    let ours = [(0, example(60_000)), (1, example(1)), (2, example(2))];
    assert_eq!(scene.nic.rules(), ours);
    assert_eq!(scene.sweep(), 0, "the owner lives");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(scene.nic.rules(), ours, "a rule outlives its process");
    // Somebody has put a rule of their own where one of these was.
    scene.nic.insert(&example(50_000), Some(2)).unwrap();
    assert_eq!(scene.sweep(), 1);
    assert_eq!(scene.nic.rules(), [(0, example(60_000)), (2, example(50_000))]);
    assert_eq!(scene.files(), [""; 0]);
    assert_eq!(scene.sweep(), 0);
}

#[test]
fn a_rule_whose_place_was_not_written_down_any_more_is_found() {
    let scene = Scene::new();
    scene.nic.write(&[(0, example(60_000))]);
    let mut child = scene.process(&[1], "half");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(scene.nic.rules().len(), 2);
    assert_eq!(scene.sweep(), 1);
    assert_eq!(scene.nic.rules(), [(0, example(60_000))]);
}

#[test]
fn two_processes_at_once_take_different_places() {
    let scene = Scene::new();
    let ports: Vec<u16> = (1..=20).collect();
    let (ours, theirs) = ports.split_at(10);
    let mut child = scene.process(&theirs[..1], "whole");
    // Both insert at the same time; the store takes 20 ms to tell which places are free.
    let other = thread::scope(|scope| {
        let other = scope.spawn(|| scene.process(&theirs[1..], "whole"));
        let leases = Leases::new(&scene.leases);
        let rules: Vec<_> = ours.iter().map(|port| scene.insert(&leases, *port)).collect();
        let other = other.join().unwrap();
        let mut found: Vec<_> = scene.nic.rules().iter().map(|(_, rule)| rule.tuple.local.port()).collect();
        found.sort_unstable();
        assert_eq!(found, ports, "nobody's was overwritten");
        drop(rules);
        other
    });
    {
        let mut process = other;
        process.kill().unwrap();
        process.wait().unwrap();
    }
    // The other dead process' are withdrawn, the living one's are not.
    assert_eq!(scene.sweep(), 9);
    assert_eq!(scene.nic.rules().len(), 1);
    // In good order.
    drop(child.stdin.take());
    child.wait().unwrap();
    assert_eq!(scene.nic.rules(), []);
    assert_eq!(scene.files(), [""; 0]);
}

/// The number of a process that has ended, in a file that nobody holds.
fn leave_behind(scene: &Scene, change: impl Fn(String) -> String) {
    let mut child = scene.process(&[1], "whole");
    child.kill().unwrap();
    child.wait().unwrap();
    let path = scene.leases.join(&scene.files()[0]);
    let text = change(fs::read_to_string(&path).unwrap());
    fs::write(path, text).unwrap();
}

#[test]
fn what_lies_in_another_namespace_waits_for_a_start_there() {
    let scene = Scene::new();
    let netns = own_netns().unwrap().to_string();
    leave_behind(&scene, |text| text.replace(&netns, "12345"));
    assert_eq!(scene.sweep(), 0);
    assert_eq!((scene.nic.rules().len(), scene.files().len()), (1, 1));
}

#[test]
fn a_file_that_is_not_understood_is_left_alone() {
    for change in [
        |text: String| text.replace("wiretick leases 1", "wiretick leases 2"),
        |text: String| text.replace("queue 3", "queue three"),
        |text: String| text + "something else\n",
        |_| String::new(),
    ] {
        let scene = Scene::new();
        leave_behind(&scene, change);
        assert_eq!(scene.sweep(), 0);
        assert_eq!((scene.nic.rules().len(), scene.files().len()), (1, 1));
    }
}

#[test]
fn a_line_that_was_not_written_whole_counts_for_nothing() {
    let scene = Scene::new();
    leave_behind(&scene, |text| text + "gone 0");
    assert_eq!(scene.sweep(), 1);
}

#[test]
fn an_interface_that_is_gone_takes_its_rules_along() {
    let scene = Scene::new();
    leave_behind(&scene, |text| text);
    assert_eq!(sweep_folder(&scene.leases, &|_| None), 0);
    assert_eq!(scene.files(), [""; 0]);
}

#[test]
fn a_living_process_is_recognised_without_its_lock_too() {
    let scene = Scene::new();
    let mut child = scene.process(&[1], "whole");
    // A copy, on which there is no lock.
    let path = scene.leases.join(&scene.files()[0]);
    let text = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, text).unwrap();
    assert_eq!(scene.sweep(), 0);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(scene.sweep(), 1);
}

#[test]
fn without_a_place_to_write_rules_are_inserted_and_withdrawn_all_the_same() {
    let scene = Scene::new();
    // A file where the folder should be; a folder that everybody may write to.
    fs::write(&scene.leases, "").unwrap();
    let leases = Leases::new(&scene.leases);
    let rule = scene.insert(&leases, 1);
    assert!(rule.is_there());
    drop(rule);
    assert_eq!(scene.nic.rules(), []);
    fs::remove_file(&scene.leases).unwrap();
    fs::create_dir(&scene.leases).unwrap();
    fs::set_permissions(&scene.leases, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let leases = Leases::new(&scene.leases);
    drop(scene.insert(&leases, 1));
    assert_eq!(scene.files(), [""; 0]);
}

#[test]
fn every_line_is_read_as_it_was_written() {
    let site = Site { netns: 7, index: 2, name: "enp1s0f0".to_owned() };
    for (local, remote, vlan) in
        [("192.0.2.1:40000", "198.51.100.7:443", None), ("[2001:db8::1]:40000", "[fe80::2%3]:443", Some(4094))]
    {
        let tuple = FourTuple { local: local.parse().unwrap(), remote: remote.parse().unwrap() };
        let rule = FlowRule { tuple, vlan, queue: 63 };
        let line = rule_line(5, &site, &rule);
        let text = format!("{HEADER}\nowner 1 2\n{line}\nat 5 17\n");
        assert_eq!(rules_of(&text).unwrap().rules, [(5, site.clone(), rule, Some(17))]);
    }
}

#[test]
fn a_refusal_leaves_nothing_written_down() {
    let scene = Scene::new();
    let store = rule::tests::Memory { error: Some(libc::EPERM), ..rule::tests::Memory::with(4) };
    let leases = Leases::new(&scene.leases);
    assert!(matches!(leases.insert(Box::new(store), site(), &example(1)), Err(RuleError::NotPermitted)));
    let text = fs::read_to_string(scene.leases.join(&scene.files()[0])).unwrap();
    assert_eq!(rules_of(&text).unwrap().rules, []);
}

#[test]
fn this_process_has_begun() {
    assert!(began(process::id()).is_some());
    assert_eq!(began(u32::MAX), None);
}
