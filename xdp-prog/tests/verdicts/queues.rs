//! The receive queue: which socket a frame goes to, and where it is counted. The queues are those of a veth pair in
//! this process's own namespace; no frame ever crosses it.

use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use libtest_mimic::Trial;
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use rustix::net::{AddressFamily, SocketType};
use wiretick_xdp::{FlowKey, FlowQueues, FlowSeen, QUEUE_ROWS, Tally, VERDICT_COLUMNS, VERDICT_SLOTS, Verdict};

use crate::sentences;
use crate::subject::{LOCAL, LOCAL_V6, REMOTE, REMOTE_V6, Subject, end, ours};
use crate::wire::PROTOCOL_UDP;

/// More than there are rows of counters.
const QUEUES: u32 = QUEUE_ROWS + 16;

pub(crate) fn trials() -> Vec<Trial> {
    sentences![
        a_flow_whose_queue_has_no_socket_stays_with_the_kernel_and_says_so,
        a_socket_takes_its_own_queues_frames_only,
        a_socket_that_closes_gives_its_flow_back_to_the_kernel,
        a_socket_of_another_feed_gets_nothing_of_a_flow,
        each_flow_knows_how_many_of_its_frames_came_where_and_found_a_socket,
        each_queue_counts_in_its_own_row,
        queues_beyond_the_rows_count_in_the_last_one_and_are_redirected_all_the_same,
        slots_that_stand_for_no_verdict_stay_zero,
    ]
}

fn a_flow_whose_queue_has_no_socket_stays_with_the_kernel_and_says_so() {
    let subject = Subject::without_socket();
    subject.enter(LOCAL, REMOTE, None);
    subject.expect(&ours().build(), Verdict::NoSocket);
    let _socket = subject.give_socket(0);
    subject.expect(&ours().build(), Verdict::Redirected);
}

fn a_socket_takes_its_own_queues_frames_only() {
    let subject = Subject::without_socket();
    subject.enter(LOCAL, REMOTE, None);
    let _socket: OwnedFd = subject.give_socket(3);
    for queue in 0..QUEUES {
        subject.comes_in_on(interface(), queue);
        let verdict = if queue == 3 { Verdict::Redirected } else { Verdict::NoSocket };
        subject.expect(&ours().build(), verdict);
    }
}

/// A lane that dies takes nothing with it: `xsk_release` removes the socket from every map (net/xdp/xsk.c).
fn a_socket_that_closes_gives_its_flow_back_to_the_kernel() {
    let mut subject = Subject::with_our_flows();
    subject.expect(&ours().build(), Verdict::Redirected);
    subject.close_socket();
    subject.expect(&ours().build(), Verdict::NoSocket);
}

/// Each queue has a socket, and the flow's feed has but one of them.
fn a_socket_of_another_feed_gets_nothing_of_a_flow() {
    let subject = Subject::without_socket();
    let _sockets: Vec<OwnedFd> = (0..QUEUES).map(|queue| subject.give_socket(queue)).collect();
    let key = FlowKey::new(end(LOCAL), end(REMOTE), None).unwrap();
    for own in [0, 1, 31, 32, 63, 64, QUEUES - 1] {
        subject.enter_on(&key, FlowQueues::new([own])).unwrap();
        for queue in 0..QUEUES {
            subject.comes_in_on(interface(), queue);
            let verdict = if queue == own { Verdict::Redirected } else { Verdict::NoSocket };
            subject.expect(&ours().build(), verdict);
        }
        let expected = FlowSeen { frames: QUEUES.into(), astray: QUEUES - 1, last_queue: QUEUES - 1 };
        assert_eq!(subject.seen(&key), expected, "{own}");
    }
}

fn each_flow_knows_how_many_of_its_frames_came_where_and_found_a_socket() {
    let subject = Subject::without_socket();
    let key = subject.enter(LOCAL, REMOTE, None);
    let other = subject.enter(LOCAL_V6, REMOTE_V6, None);
    assert_eq!(subject.seen(&key), FlowSeen::default());
    let _socket = subject.give_socket(3);
    for (queue, expected) in [
        (3, FlowSeen { frames: 1, astray: 0, last_queue: 3 }),
        (5, FlowSeen { frames: 2, astray: 1, last_queue: 5 }),
        (QUEUES - 1, FlowSeen { frames: 3, astray: 2, last_queue: QUEUES - 1 }),
        (3, FlowSeen { frames: 4, astray: 2, last_queue: 3 }),
    ] {
        subject.comes_in_on(interface(), queue);
        subject.run(&ours().build());
        assert_eq!(subject.seen(&key), expected);
    }
    assert_eq!(subject.seen(&other), FlowSeen::default());
    // Entered anew, it begins anew.
    subject.enter(LOCAL, REMOTE, None);
    assert_eq!(subject.seen(&key), FlowSeen::default());
}

fn each_queue_counts_in_its_own_row() {
    let subject = Subject::with_our_flows();
    let mut udp = ours();
    udp.protocol = PROTOCOL_UDP;
    // A different number of frames for each queue, so that no two rows can be taken for one another.
    for queue in 0..QUEUE_ROWS {
        subject.comes_in_on(interface(), queue);
        for _ in 0..=queue {
            subject.expect(&udp.build(), Verdict::NotTcp);
        }
    }
    for queue in 0..QUEUE_ROWS {
        assert_eq!(subject.tally_of(queue)[Verdict::NotTcp], u64::from(queue) + 1, "queue {queue}");
        assert_eq!(subject.tally_of(queue).total(), u64::from(queue) + 1, "queue {queue}");
    }
}

fn queues_beyond_the_rows_count_in_the_last_one_and_are_redirected_all_the_same() {
    let subject = Subject::without_socket();
    subject.enter(LOCAL, REMOTE, None);
    let _sockets: Vec<OwnedFd> = (0..QUEUES).map(|queue| subject.give_socket(queue)).collect();
    for queue in QUEUE_ROWS - 1..QUEUES {
        subject.comes_in_on(interface(), queue);
        subject.expect(&ours().build(), Verdict::Redirected);
    }
    assert_eq!(subject.tally_of(QUEUE_ROWS - 1)[Verdict::Redirected], 17);
    for queue in 0..QUEUE_ROWS - 1 {
        assert_eq!(subject.tally_of(queue), Tally::default(), "queue {queue}");
    }
}

fn slots_that_stand_for_no_verdict_stay_zero() {
    let subject = Subject::with_our_flows();
    for queue in [0, 1, QUEUES - 1] {
        subject.comes_in_on(interface(), queue);
        let frame = ours().build();
        subject.run(&frame);
        subject.run(&frame[..20]);
    }
    let counted: u64 = (0..VERDICT_SLOTS).map(|slot| subject.counter(slot)).sum();
    assert_eq!(counted, 6);
    for slot in (0..VERDICT_SLOTS).filter(|slot| (slot % VERDICT_COLUMNS) as usize >= Verdict::COUNT) {
        assert_eq!(subject.counter(slot), 0, "slot {slot}");
    }
}

/// The index of an interface with [`QUEUES`] receive queues, made when it is first asked for.
fn interface() -> u32 {
    static INTERFACE: OnceLock<u32> = OnceLock::new();
    *INTERFACE.get_or_init(|| {
        const NAME: &str = "queues";
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(NAME.to_owned()),
            LinkAttribute::NumRxQueues(QUEUES),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]),
        ];
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewLink(link));
        request.header.flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);

        let mut netlink = Socket::new(NETLINK_ROUTE).unwrap();
        netlink.bind_auto().unwrap();
        netlink.connect(&SocketAddr::new(0, 0)).unwrap();
        netlink.send(&bytes, 0).unwrap();
        let (answer, _) = netlink.recv_from_full().unwrap();
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).unwrap().payload {
            NetlinkPayload::Error(error) if error.code.is_none() => {}
            other => panic!("no veth pair with {QUEUES} receive queues: {other:?}"),
        }
        let any = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None).unwrap();
        rustix::net::netdevice::name_to_index(&any, NAME).unwrap()
    })
}
