//! Both loaders take the object, and the maps the kernel made have the sizes that Rust believes in.

use std::os::fd::AsRawFd as _;

use aya::maps::{HashMap, PerCpuArray, XskMap};
use aya::programs::Xdp;
use libbpf_rs::{MapCore as _, MapType};
use libtest_mimic::Trial;
use rustix::net::{AddressFamily, SocketType};
use wiretick_xdp::{
    FLOWS, FLOWS_MAX, FlowKey, FlowQueues, FlowSeen, OBJECT, QUEUES_MAX, Tally, VERDICT_SLOTS, VERDICTS, XSKS,
};

use crate::sentences;
use crate::subject::{LOCAL, REMOTE, Subject, Variant, end};

pub(crate) fn trials() -> Vec<Trial> {
    sentences![
        the_kernels_maps_have_the_sizes_of_the_constants,
        aya_loads_the_program_and_works_its_maps,
        a_queue_beyond_the_socket_map_is_refused,
    ]
}

fn the_kernels_maps_have_the_sizes_of_the_constants() {
    let subject = Subject::without_socket();
    for (name, kind, key, value, entries) in [
        (FLOWS, MapType::Hash, FlowKey::LEN, FlowSeen::LEN, FLOWS_MAX),
        (XSKS, MapType::Xskmap, size_of::<u32>(), size_of::<i32>(), QUEUES_MAX),
        (VERDICTS, MapType::PercpuArray, size_of::<u32>(), size_of::<u64>(), VERDICT_SLOTS),
    ] {
        let info = subject.map(name, |map| map.info()).unwrap().info;
        assert_eq!(
            (MapType::from(info.type_), info.key_size as usize, info.value_size as usize, info.max_entries),
            (kind, key, value, entries),
            "{name}"
        );
    }
}

fn aya_loads_the_program_and_works_its_maps() {
    let mut bpf = aya::Ebpf::load(OBJECT).unwrap();
    let program: &mut Xdp = bpf.program_mut(Variant::chosen()).unwrap().try_into().unwrap();
    program.load().unwrap();
    assert_eq!(program.info().unwrap().gpl_compatible(), Some(true), "kfuncs and some helpers ask for it");

    let key = FlowKey::new(end(LOCAL), end(REMOTE), Some(7)).unwrap();
    let mut flows: HashMap<_, [u8; FlowKey::LEN], [u8; FlowSeen::LEN]> =
        bpf.map_mut(FLOWS).unwrap().try_into().unwrap();
    flows.insert(key.to_bytes(), FlowQueues::new([0]).to_bytes(), 0).unwrap();
    let entered: Vec<FlowKey> = flows.keys().map(|key| FlowKey::from_bytes(key.unwrap())).collect();
    assert_eq!(entered, [key]);
    flows.remove(&key.to_bytes()).unwrap();
    assert!(flows.get(&key.to_bytes(), 0).is_err());

    let socket = rustix::net::socket(AddressFamily::XDP, SocketType::RAW, None).unwrap();
    let mut xsks: XskMap<_> = bpf.map_mut(XSKS).unwrap().try_into().unwrap();
    assert_eq!(xsks.len(), QUEUES_MAX);
    xsks.set(QUEUES_MAX - 1, socket.as_raw_fd(), 0).unwrap();
    xsks.unset(QUEUES_MAX - 1).unwrap();

    let verdicts: PerCpuArray<_, u64> = bpf.map(VERDICTS).unwrap().try_into().unwrap();
    let tally = Tally::read(u32::MAX, |slot| verdicts.get(&slot, 0).map(|cpus| cpus.iter().sum())).unwrap();
    assert_eq!(tally, Tally::default());
}

fn a_queue_beyond_the_socket_map_is_refused() {
    let mut bpf = aya::Ebpf::load(OBJECT).unwrap();
    let socket = rustix::net::socket(AddressFamily::XDP, SocketType::RAW, None).unwrap();
    let mut xsks: XskMap<_> = bpf.map_mut(XSKS).unwrap().try_into().unwrap();
    assert!(xsks.set(QUEUES_MAX, socket.as_raw_fd(), 0).is_err());
}
