//! The C and the Rust side of the layout are one: the header, read as text, and the object's BTF are compared with the
//! crate's constants and keys. Needs no privilege; nothing is loaded.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use libbpf_rs::ObjectBuilder;
use libbpf_rs::btf::types::{MemberAttr, Struct};
use libbpf_rs::btf::{Btf, HasSize as _};
use wiretick_xdp::{
    ARRIVAL_BYTES, Answer, BOUND_OBJECT, FLOOR_OBJECT, FLOOR_PORT, FLOOR_PROGRAM, FLOWS, FLOWS_MAX, FlowKey,
    FlowQueues, FlowSeen, HINTS_BYTES, HINTS_VERSION, Hints, NicTime, OBJECT, PROGRAM, PROGRAM_BOUND,
    PROGRAM_BOUND_FRAGS, PROGRAM_FRAGS, QUEUE_ROWS, QUEUES_MAX, RssHash, VERDICT_COLUMNS, VERDICT_SLOTS, VERDICTS,
    Verdict, VlanTag, XSKS,
};

const HEADER: &str = include_str!("../src/bpf/layout.h");

#[test]
fn every_verdict_has_the_same_name_and_number_in_c() {
    let in_c: BTreeMap<String, usize> = HEADER
        .lines()
        .filter_map(|line| line.trim().strip_prefix("VERDICT_")?.strip_suffix(',')?.split_once(" = "))
        .map(|(name, number)| (name.to_lowercase(), number.parse().unwrap()))
        .collect();
    let mut in_rust: BTreeMap<String, usize> =
        Verdict::ALL.into_iter().map(|verdict| (verdict.name().to_owned(), verdict as usize)).collect();
    in_rust.insert("count".to_owned(), Verdict::COUNT);
    assert_eq!(in_c, in_rust);
}

#[test]
fn every_answer_has_the_same_number_in_c() {
    let in_c: BTreeMap<&str, u8> = HEADER
        .lines()
        .filter_map(|line| line.trim().strip_prefix("ANSWER_")?.strip_suffix(',')?.split_once(" = "))
        .map(|(name, number)| (name, number.parse().unwrap()))
        .collect();
    let read = |number: u8| {
        let mut bytes = [0; HINTS_BYTES - ARRIVAL_BYTES];
        (bytes[20], bytes[23]) = (number, HINTS_VERSION);
        Hints::read(&bytes).unwrap().time
    };
    assert_eq!(read(in_c["NONE"]), Answer::None);
    assert_eq!(read(in_c["KNOWN"]), Answer::Known(NicTime::from_nanos(0)));
    assert_eq!(read(in_c["ABSENT"]), Answer::Absent);
    assert_eq!(read(in_c["UNSUPPORTED"]), Answer::Unsupported);
    assert_eq!(read(in_c["FAILED"]), Answer::Failed);
    assert_eq!(in_c.len(), 6);
    assert_eq!(in_c["COUNT"], 5);
}

#[test]
fn every_size_is_the_same_in_c() {
    let in_c: BTreeMap<&str, &str> = HEADER
        .lines()
        .filter_map(|line| line.strip_prefix("#define ")?.split_once(' '))
        .filter(|(name, _)| {
            !["VERDICT_SLOTS", "QUEUE_WORD_BITS", "QUEUE_WORDS"].contains(name) && !name.starts_with("LIES_AT")
        })
        .collect();
    let in_rust = [
        ("FLOWS_MAX", FLOWS_MAX),
        ("QUEUES_MAX", QUEUES_MAX),
        ("QUEUE_ROWS", QUEUE_ROWS),
        ("VERDICT_COLUMNS", VERDICT_COLUMNS),
        ("HINTS_VERSION", HINTS_VERSION.into()),
    ]
    .map(|(name, value)| (name, value.to_string()));
    assert_eq!(in_c, in_rust.iter().map(|(name, value)| (*name, value.as_str())).collect());
}

#[test]
fn the_maps_the_object_declares_have_the_names_and_entries_of_the_constants() {
    let object = ObjectBuilder::default().open_memory(OBJECT).unwrap();
    let maps: BTreeMap<String, u32> =
        // `.rodata` holds the globals; libbpf puts the object's name, which is made up, in front.
        object
            .maps()
            .map(|map| (map.name().to_string_lossy().into_owned(), map.max_entries()))
            .filter(|(name, _)| !name.ends_with(".rodata"))
            .collect();
    let expected = [(FLOWS, FLOWS_MAX), (XSKS, QUEUES_MAX), (VERDICTS, VERDICT_SLOTS)];
    assert_eq!(maps, expected.map(|(name, entries)| (name.to_owned(), entries)).into());

    let programs: Vec<_> =
        object.progs().map(|program| (program.name().to_owned(), program.section().to_owned())).collect();
    assert_eq!(programs, [(PROGRAM.into(), "xdp".into()), (PROGRAM_FRAGS.into(), "xdp.frags".into())]);
}

/// Each field's place comes from the object's BTF, which clang wrote from the C struct; its contents from Rust.
#[test]
fn every_field_of_a_key_lies_where_the_program_reads_it() {
    let btf = Btf::from_raw("layout", OBJECT).unwrap().unwrap();
    let flow_key: Struct<'_> = btf.type_by_name("flow_key").unwrap();
    assert_eq!(flow_key.size(), FlowKey::LEN);
    let mut fields: BTreeMap<String, usize> = flow_key
        .iter()
        .map(|field| {
            let MemberAttr::Normal { offset: bit } = field.attr else { panic!("{:?} is a bit field", field.name) };
            (field.name.unwrap().to_string_lossy().into_owned(), bit as usize / 8)
        })
        .collect();

    let local: SocketAddr = "[2001:db8::a:1]:40000".parse().unwrap();
    let remote: SocketAddr = "[2001:db8::b:2]:443".parse().unwrap();
    let key = *FlowKey::new(local, remote, Some(0x123)).unwrap().as_bytes();
    let mut field = |name: &str, len: usize| key[fields.remove(name).unwrap()..][..len].to_vec();
    assert_eq!(field("remote", 16), [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0b, 0, 2]);
    assert_eq!(field("local", 16), [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x0a, 0, 1]);
    assert_eq!(field("remote_port", 2), 443_u16.to_be_bytes());
    assert_eq!(field("local_port", 2), 40000_u16.to_be_bytes());
    assert_eq!(field("vlan", 2), [0x01, 0x23]);
    assert_eq!(field("ethertype", 2), [0x86, 0xdd]);
    assert_eq!(fields.into_keys().collect::<Vec<_>>(), Vec::<String>::new(), "a field that Rust does not fill");
}

#[test]
fn every_field_of_a_flow_lies_where_it_is_written_and_read() {
    let btf = Btf::from_raw("layout", OBJECT).unwrap().unwrap();
    let flow: Struct<'_> = btf.type_by_name("flow").unwrap();
    assert_eq!(flow.size(), FlowSeen::LEN);
    // The word that holds queue 130 is the third.
    let mut bytes = FlowQueues::new([130]).to_bytes();
    for field in flow.iter() {
        let MemberAttr::Normal { offset: bit } = field.attr else { panic!("{:?} is a bit field", field.name) };
        let place = &mut bytes[bit as usize / 8..];
        let value: &[u8] = match field.name.unwrap().to_str().unwrap() {
            "queues" => {
                assert_eq!(place[16..24], 4_u64.to_ne_bytes());
                continue;
            }
            "frames" => &0x0102_0304_0506_0708_u64.to_ne_bytes(),
            "astray" => &0x1112_1314_u32.to_ne_bytes(),
            "last_queue" => &0x2122_2324_u32.to_ne_bytes(),
            other => panic!("a field that Rust does not read: {other}"),
        };
        place[..value.len()].copy_from_slice(value);
    }
    let read = FlowSeen { frames: 0x0102_0304_0506_0708, astray: 0x1112_1314, last_queue: 0x2122_2324 };
    assert_eq!(FlowSeen::from_bytes(bytes), read);
}

/// Each value is written where the program writes it, and nothing else is: whatever is found then comes from that field.
#[test]
fn every_field_of_the_hints_lies_where_it_is_read() {
    let mut fields: BTreeMap<&str, usize> = HEADER
        .lines()
        .filter_map(|line| line.strip_prefix("LIES_AT(")?.strip_suffix(");")?.split_once(", "))
        .map(|(name, at)| (name, at.parse().unwrap()))
        .collect();
    let mut bytes = [0; HINTS_BYTES];
    let mut put = |name: &str, value: &[u8]| {
        let at = fields.remove(name).unwrap_or_else(|| panic!("no field {name}"));
        bytes[at..at + value.len()].copy_from_slice(value);
    };
    put("nic_ns", &0x0102_0304_0506_0708_u64.to_ne_bytes());
    put("hash", &0x1112_1314_u32.to_ne_bytes());
    put("hash_type", &0x2122_2324_u32.to_ne_bytes());
    put("vlan_tci", &0x3132_u16.to_ne_bytes());
    put("vlan_protocol", &0x88a8_u16.to_be_bytes());
    put("time_answer", &[1]);
    put("hash_answer", &[1]);
    put("vlan_answer", &[1]);
    put("version", &[HINTS_VERSION]);
    put("arrival", &0x4142_4344_4546_4748_u64.to_ne_bytes());
    assert_eq!(fields, BTreeMap::new(), "a field that Rust does not read");

    let (front, arrival) = bytes.split_first_chunk().unwrap();
    let read = Hints::read(front).unwrap();
    assert_eq!(read.time, Answer::Known(NicTime::from_nanos(0x0102_0304_0506_0708)));
    assert_eq!(read.hash, Answer::Known(RssHash { value: 0x1112_1314, kind: 0x2122_2324 }));
    assert_eq!(read.vlan, Answer::Known(VlanTag { protocol: 0x88a8, tci: 0x3132 }));
    assert_eq!(arrival, 0x4142_4344_4546_4748_u64.to_ne_bytes(), "the time of arrival is right in front of the frame");
}

#[test]
fn the_device_bound_programs_have_the_maps_of_the_plain_ones() {
    let maps = |object: &[u8]| -> Vec<(String, u32)> {
        let object = ObjectBuilder::default().open_memory(object).unwrap();
        let maps = object.maps().map(|map| (map.name().to_string_lossy().into_owned(), map.max_entries()));
        let mut maps: Vec<_> = maps.filter(|(name, _)| !name.ends_with(".rodata")).collect();
        maps.sort();
        maps
    };
    assert_eq!(maps(BOUND_OBJECT), maps(OBJECT));
    let object = ObjectBuilder::default().open_memory(BOUND_OBJECT).unwrap();
    let programs: Vec<_> =
        object.progs().map(|program| (program.name().to_owned(), program.section().to_owned())).collect();
    assert_eq!(programs, [(PROGRAM_BOUND.into(), "xdp".into()), (PROGRAM_BOUND_FRAGS.into(), "xdp.frags".into())]);
}

#[test]
fn the_floor_has_its_program_its_port_and_nothing_but_sockets() {
    let object = ObjectBuilder::default().open_memory(FLOOR_OBJECT).unwrap();
    let maps: Vec<_> = object.maps().map(|map| map.name().to_string_lossy().into_owned()).collect();
    assert_eq!(maps.iter().filter(|name| !name.ends_with(".rodata")).collect::<Vec<_>>(), [XSKS]);
    let programs: Vec<_> = object.progs().map(|program| program.name().to_owned()).collect();
    assert_eq!(programs, [FLOOR_PROGRAM]);
    let btf = Btf::from_raw("floor", FLOOR_OBJECT).unwrap().unwrap();
    assert!(btf.type_by_name::<libbpf_rs::btf::types::Var<'_>>(FLOOR_PORT).is_some());
}

#[test]
fn each_object_is_aligned_and_does_not_say_where_it_was_built() {
    let built_in = env!("CARGO_MANIFEST_DIR").as_bytes();
    for object in [OBJECT, BOUND_OBJECT, FLOOR_OBJECT] {
        assert_eq!(object.as_ptr() as usize % 8, 0);
        assert!(!object.windows(built_in.len()).any(|bytes| bytes == built_in));
    }
}
