//! The program under test: loaded into the kernel with libbpf, run over one frame at a time with `BPF_PROG_TEST_RUN`.
//!
//! Every run is checked in three ways at once: the action, the bytes of the frame (the program changes none), and the
//! counters of the queue, of which exactly one must have moved by exactly one. A redirect is real: queue 0 has an
//! AF_XDP socket, which need not be bound for the map to take it (`xsk_map_update_elem` in net/xdp/xskmap.c).

use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use libbpf_rs::{MapCore as _, MapFlags, MapImpl, Object, ObjectBuilder, OpenObject, ProgramInput, ProgramMut};
use rustix::net::{AddressFamily, SocketType};
use wiretick_xdp::{
    FLOWS, FlowKey, FlowQueues, FlowSeen, OBJECT, PROGRAM, PROGRAM_FRAGS, QUEUES_MAX, Tally, VERDICTS, Verdict, XSKS,
};

use crate::wire::Packet;

/// `enum xdp_action` in linux/bpf.h.
pub(crate) const XDP_PASS: u32 = 2;
pub(crate) const XDP_REDIRECT: u32 = 4;

/// The flow that most tests enter.
pub(crate) const REMOTE: &str = "198.51.100.7:443";
pub(crate) const LOCAL: &str = "192.0.2.1:40000";
/// The same over IPv6.
pub(crate) const REMOTE_V6: &str = "[2001:db8:1:2:3:4:5:6]:443";
pub(crate) const LOCAL_V6: &str = "[2001:db8:a:b:c:d:e:f]:40000";

pub(crate) fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// A packet of the flow that most tests enter.
pub(crate) fn ours() -> Packet {
    Packet::new(end(REMOTE), end(LOCAL))
}

/// The same over IPv6.
pub(crate) fn ours_v6() -> Packet {
    Packet::new(end(REMOTE_V6), end(LOCAL_V6))
}

/// The programs there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// For frames in one piece.
    Plain,
    /// For frames that may lie in several.
    Frags,
}

thread_local! {
    static VARIANT: Cell<Variant> = const { Cell::new(Variant::Plain) };
}

impl Variant {
    /// Both decide the same, so every test is there for either.
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::Frags];

    /// What the names of its tests begin with.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Frags => "frags::",
        }
    }

    /// Makes it the subject of what the calling thread tests from now on.
    pub(crate) fn choose(self) {
        VARIANT.set(self);
    }

    /// The name of the variant that the calling thread tests.
    pub(crate) fn chosen() -> &'static str {
        VARIANT.get().program()
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Plain => PROGRAM,
            Self::Frags => PROGRAM_FRAGS,
        }
    }
}

/// The program, its maps, and what its counters for queue 0 must show.
pub(crate) struct Subject {
    object: Object,
    program: &'static str,
    /// Where frames come in: an interface of this process's namespace and one of its queues. The kernel takes a queue
    /// only together with an interface that has it (`xdp_convert_md_to_buff` in `net/bpf/test_run.c`); (0, 0) leaves
    /// both to the kernel.
    ingress: Cell<(u32, u32)>,
    counted: Cell<Tally>,
    socket: Option<OwnedFd>,
}

impl Subject {
    /// The program with no flow, and a socket on queue 0.
    pub(crate) fn without_flows() -> Self {
        let mut subject = Self::without_socket();
        subject.socket = Some(subject.give_socket(0));
        subject
    }

    /// The program with no flow and no socket.
    pub(crate) fn without_socket() -> Self {
        Self::load(ObjectBuilder::default().open_memory(OBJECT).unwrap())
    }

    /// Loads the variant that is to be tested, and no other: an older kernel may not know the other.
    fn load(mut open: OpenObject) -> Self {
        let program = Variant::chosen();
        for mut other in open.progs_mut().filter(|other| other.name() != program) {
            other.set_autoload(false);
        }
        let object = open.load().unwrap();
        Self { object, program, ingress: Cell::new((0, 0)), counted: Cell::default(), socket: None }
    }

    /// As [`with_our_flows`](Self::with_our_flows), and frames are stamped with the time of their arrival.
    pub(crate) fn with_stamps() -> Self {
        let mut open = ObjectBuilder::default().open_memory(OBJECT).unwrap();
        // The one global there is.
        let mut globals = open.maps_mut().find(|map| map.name().to_string_lossy().ends_with(".rodata")).unwrap();
        globals.initial_value_mut().unwrap().copy_from_slice(&1u32.to_ne_bytes());
        let subject = Self::load(open);
        let socket = subject.give_socket(0);
        subject.enter(LOCAL, REMOTE, None);
        subject.enter(LOCAL_V6, REMOTE_V6, None);
        Self { socket: Some(socket), ..subject }
    }

    /// Runs the program over one frame and returns what it handed on: metadata, then the frame.
    pub(crate) fn run_with_room(&self, frame: &[u8]) -> (u32, Vec<u8>) {
        let mut after = vec![0; frame.len() + 64];
        let input = ProgramInput { data_in: Some(frame), data_out: Some(&mut after), ..ProgramInput::default() };
        let output = self.program().test_run(input).unwrap();
        let len = output.data.unwrap().len();
        let action = output.return_value;
        after.truncate(len);
        (action, after)
    }

    /// The program with our flow over IPv4 and over IPv6, and a socket on queue 0.
    pub(crate) fn with_our_flows() -> Self {
        let subject = Self::without_flows();
        subject.enter(LOCAL, REMOTE, None);
        subject.enter(LOCAL_V6, REMOTE_V6, None);
        subject
    }

    /// Enters a flow and returns its key.
    pub(crate) fn enter(&self, local: &str, remote: &str, vlan: Option<u16>) -> FlowKey {
        let key = FlowKey::new(end(local), end(remote), vlan).unwrap();
        self.enter_key(&key).unwrap();
        key
    }

    /// Enters a flow whose feed has a socket wherever there is one.
    pub(crate) fn enter_key(&self, key: &FlowKey) -> libbpf_rs::Result<()> {
        self.enter_on(key, FlowQueues::new(0..QUEUES_MAX))
    }

    pub(crate) fn enter_on(&self, key: &FlowKey, queues: FlowQueues) -> libbpf_rs::Result<()> {
        self.map(FLOWS, |flows| flows.update(key.as_bytes(), &queues.to_bytes(), MapFlags::ANY))
    }

    /// What the program has seen of a flow.
    pub(crate) fn seen(&self, key: &FlowKey) -> FlowSeen {
        let bytes = self.map(FLOWS, |flows| flows.lookup(key.as_bytes(), MapFlags::ANY)).unwrap().unwrap();
        FlowSeen::from_bytes(bytes.try_into().unwrap())
    }

    pub(crate) fn remove(&self, key: &FlowKey) {
        self.map(FLOWS, |flows| flows.delete(key.as_bytes())).unwrap();
    }

    /// Puts a new AF_XDP socket in the map for `queue`; it leaves the map when it is closed.
    pub(crate) fn give_socket(&self, queue: u32) -> OwnedFd {
        let socket = rustix::net::socket(AddressFamily::XDP, SocketType::RAW, None).unwrap();
        let fd = socket.as_raw_fd().to_ne_bytes();
        self.map(XSKS, |xsks| xsks.update(&queue.to_ne_bytes(), &fd, MapFlags::ANY)).unwrap();
        socket
    }

    /// Closes the socket of queue 0.
    pub(crate) fn close_socket(&mut self) {
        self.socket = None;
    }

    /// Lets frames come in on another interface and queue from now on.
    pub(crate) fn comes_in_on(&self, interface: u32, queue: u32) {
        self.ingress.set((interface, queue));
        self.counted.set(self.tally());
    }

    /// Runs the program over one frame. Checks action, frame and counters against `verdict`.
    #[track_caller]
    pub(crate) fn expect(&self, frame: &[u8], verdict: Verdict) {
        let action = self.run(frame);
        let before = self.counted.replace(self.tally());
        let moved: Vec<_> = self.counted.get().since(&before).iter().filter(|(_, count)| *count != 0).collect();
        assert_eq!(moved, [(verdict, 1)], "{frame:02x?}");
        assert_eq!(action, if verdict == Verdict::Redirected { XDP_REDIRECT } else { XDP_PASS }, "{frame:02x?}");
    }

    /// As [`expect`](Self::expect), with the first `first` bytes of the frame in one buffer and the rest in others.
    #[track_caller]
    pub(crate) fn expect_cut(&self, frame: &[u8], first: usize, verdict: Verdict) {
        let action = self.run_cut(frame, first).unwrap();
        let before = self.counted.replace(self.tally());
        let moved: Vec<_> = self.counted.get().since(&before).iter().filter(|(_, count)| *count != 0).collect();
        assert_eq!(moved, [(verdict, 1)], "{first} bytes in the first buffer");
        assert_eq!(action, if verdict == Verdict::Redirected { XDP_REDIRECT } else { XDP_PASS });
    }

    /// Runs the program over a frame whose first buffer holds `first` bytes, and returns the action.
    pub(crate) fn run_cut(&self, frame: &[u8], first: usize) -> libbpf_rs::Result<u32> {
        let first = u32::try_from(first).unwrap();
        let mut context: Vec<u8> = [0, first, 0, 0, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
        let input = ProgramInput { context_in: Some(&mut context), data_in: Some(frame), ..ProgramInput::default() };
        Ok(self.program().test_run(input)?.return_value)
    }

    /// Whether this process can load the program at all.
    pub(crate) fn can_load() -> bool {
        let mut open = ObjectBuilder::default().open_memory(OBJECT).unwrap();
        for mut other in open.progs_mut().filter(|other| other.name() != Variant::chosen()) {
            other.set_autoload(false);
        }
        open.load().is_ok()
    }

    /// Runs the program over one frame, checks that it left the frame as it was, and returns the action.
    #[track_caller]
    pub(crate) fn run(&self, frame: &[u8]) -> u32 {
        let len = u32::try_from(frame.len()).unwrap();
        let (interface, queue) = self.ingress.get();
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex. Left out where the
        // kernel's own choice will do (queue 0 of the loopback device): kernels before 5.14 take none.
        let mut context: Vec<u8> = [0, len, 0, interface, queue, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
        let mut after = vec![0; frame.len()];
        let output = self
            .program()
            .test_run(ProgramInput {
                context_in: (interface != 0).then_some(&mut context),
                data_in: Some(frame),
                data_out: Some(&mut after),
                ..ProgramInput::default()
            })
            .unwrap();
        assert_eq!(output.data.as_deref(), Some(frame), "the program changed the frame");
        output.return_value
    }

    /// Runs the program over one frame many times and returns the average, in nanoseconds.
    pub(crate) fn average_ns(&self, frame: &[u8], repeat: u32) -> u64 {
        let input = ProgramInput { data_in: Some(frame), repeat, ..ProgramInput::default() };
        u64::try_from(self.program().test_run(input).unwrap().duration.as_nanos()).unwrap()
    }

    /// What the queue that frames come in on has counted, over all CPUs.
    pub(crate) fn tally(&self) -> Tally {
        self.tally_of(self.ingress.get().1)
    }

    pub(crate) fn tally_of(&self, queue: u32) -> Tally {
        Tally::read(queue, |slot| Ok::<_, ()>(self.counter(slot))).unwrap()
    }

    /// One slot of the counter map, over all CPUs.
    pub(crate) fn counter(&self, slot: u32) -> u64 {
        let cpus = self.map(VERDICTS, |map| map.lookup_percpu(&slot.to_ne_bytes(), MapFlags::ANY)).unwrap().unwrap();
        cpus.into_iter().map(|value| u64::from_ne_bytes(value.try_into().unwrap())).sum()
    }

    /// The program's own view of one of its maps.
    pub(crate) fn map<T>(&self, name: &str, then: impl FnOnce(MapImpl<'_>) -> T) -> T {
        then(self.object.maps().find(|map| map.name() == name).unwrap())
    }

    fn program(&self) -> ProgramMut<'_> {
        self.object.progs_mut().find(|program| program.name() == self.program).unwrap()
    }
}
