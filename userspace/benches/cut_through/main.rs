//! Is it worth while to decrypt a record that spans segments as its segments arrive (authenticated cut-through)?
//!
//! `cargo bench -p wiretick --bench cut_through`. Each TLS 1.3 record is cut into segments of 1,448 bytes and opened twice,
//! in an order that changes from record to record:
//!
//! * joined, as the record stage does it: each piece is copied into a buffer that is used again; with the last one there,
//!   aws-lc-rs opens the whole in place;
//! * cut-through: each piece is decrypted and hashed from where it lies into the same buffer, so that the decryption is the
//!   copy, and with the last one there, the tag is checked. Nothing is released before.
//!
//! Two times count: from the last segment's arrival to the plaintext, and all the time that the record takes. A record of one
//! segment is opened in place both ways, to see what the other interface costs. Where the segments come spaced by a wire,
//! and not all at once, is computed from these times. The bytes have just been written and lie in the caches; cold ones are
//! not measured. Before anything is measured, both ways have to give the same plaintexts and refuse the same forgeries.

mod evp;

use std::hint::black_box;
use std::ops::Range;
use std::time::Instant;

use aws_lc_rs::aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_sys::{EVP_CIPHER, EVP_aes_128_gcm, EVP_aes_256_gcm, EVP_chacha20_poly1305};
use evp::Evp;

const HEADER: usize = 5;
const TAG: usize = 16;
/// What a record has besides its plaintext: header, content type, tag.
const AROUND: usize = HEADER + 1 + TAG;
const APPLICATION_DATA: u8 = 23;
/// What a segment carries on Ethernet, with timestamps.
const SEGMENT: usize = 1448;
/// What it takes on the wire besides: preamble, Ethernet, IPv4, TCP with timestamps, checksum, gap.
const SEGMENT_AROUND: usize = 90;
/// A frame of UMEM, and where in it a segment's payload begins: XDP's headroom, then Ethernet, IPv4 and TCP.
const FRAME: usize = 4096;
const PAYLOAD_AT: usize = 256 + 14 + 20 + 32;

/// Plaintexts of one segment: a trade, and as much as fits. Opened in place, both ways.
const ONE_SEGMENT: [usize; 2] = [138, SEGMENT - AROUND];
/// Plaintexts of several. The one in the middle fills five segments, so that its last piece is a whole one.
const SEVERAL: [usize; 5] = [2048, 4096, 5 * SEGMENT - AROUND, 8192, 16384];

/// What a full segment costs the thread besides its record, in nanoseconds, before the next one gets its turn: the walk over
/// its headers with the checksum, and smoltcp's share. About the least that `stages` says (130 to 160, and 300 from the
/// handler to the end of the turn); an assumption here.
const REST_OF_STACK: f64 = 430.0;

const ROUNDS: usize = 300;
const RECORDS_A_ROUND: usize = 100;

/// A cipher suite's AEAD in both interfaces.
#[derive(Clone, Copy)]
struct Suite {
    name: &'static str,
    joined: &'static aead::Algorithm,
    cut_through: unsafe extern "C" fn() -> *const EVP_CIPHER,
}

const SUITES: [Suite; 3] = [
    Suite { name: "AES-128-GCM", joined: &aead::AES_128_GCM, cut_through: EVP_aes_128_gcm },
    Suite { name: "AES-256-GCM", joined: &aead::AES_256_GCM, cut_through: EVP_aes_256_gcm },
    Suite { name: "ChaCha20-Poly1305", joined: &aead::CHACHA20_POLY1305, cut_through: EVP_chacha20_poly1305 },
];

const KEY: [u8; 32] = *b"any key will do: the records are";
const IV: [u8; NONCE_LEN] = *b"and any iv, ";

fn main() {
    // What `cargo bench` passes on, and what it does not measure by, is not looked at.
    for suite in SUITES {
        verify(suite);
    }
    let mut cases = Vec::new();
    for suite in SUITES {
        cases.extend(ONE_SEGMENT.into_iter().chain(SEVERAL).map(|plaintext_len| Case::new(suite, plaintext_len)));
    }
    // The first round warms up: its samples are dropped.
    for round in 0..=ROUNDS {
        for case in &mut cases {
            case.round();
            if round == 0 {
                case.samples = Default::default();
            }
        }
    }
    report(&cases);
}

/// A record on its way: its bytes as the NIC left them, one segment in each frame.
struct Wire {
    frames: Vec<u8>,
    pieces: Vec<Range<usize>>,
}

impl Wire {
    fn new(record: &[u8], segment: usize) -> Self {
        assert!(segment <= FRAME - PAYLOAD_AT, "a piece lies in a frame");
        let count = record.len().div_ceil(segment);
        let pieces = (0..count)
            .map(|n| {
                let at = n * FRAME + PAYLOAD_AT;
                at..at + segment.min(record.len() - n * segment)
            })
            .collect();
        let mut wire = Self { frames: vec![0; count * FRAME], pieces };
        wire.arrive(record);
        wire
    }

    /// Writes a record of the same length into the frames.
    fn arrive(&mut self, mut record: &[u8]) {
        for piece in &self.pieces {
            let (now, later) = record.split_at(piece.len());
            self.frames[piece.clone()].copy_from_slice(now);
            record = later;
        }
    }

    /// The pieces before the last one, and the last one.
    fn pieces(&self) -> (impl Iterator<Item = &[u8]>, &[u8]) {
        let (last, early) = self.pieces.split_last().expect("a record is never empty");
        (early.iter().map(|piece| &self.frames[piece.clone()]), &self.frames[last.clone()])
    }

    /// The piece of a record that fits a segment.
    fn only(&mut self) -> &mut [u8] {
        &mut self.frames[self.pieces[0].clone()]
    }
}

/// One way to open records.
trait Opener {
    /// Takes the next piece of the record. The header must lie whole in the first one: nothing else is measured.
    fn piece(&mut self, sequence: u64, piece: &[u8], buffer: &mut [u8]);

    /// After the last piece: where in `buffer` the plaintext lies, or `None` where it does not authenticate.
    fn finish(&mut self, sequence: u64, buffer: &mut [u8]) -> Option<Range<usize>>;

    /// A record that lies whole in its segment.
    fn in_place(&mut self, sequence: u64, record: &mut [u8]) -> Option<Range<usize>>;
}

/// Copied piece by piece, opened as a whole.
struct Joined {
    key: LessSafeKey,
    held: usize,
}

impl Joined {
    fn new(suite: Suite) -> Self {
        Self { key: key(suite), held: 0 }
    }
}

impl Opener for Joined {
    #[inline]
    fn piece(&mut self, _: u64, piece: &[u8], buffer: &mut [u8]) {
        buffer[self.held..self.held + piece.len()].copy_from_slice(piece);
        self.held += piece.len();
    }

    #[inline]
    fn finish(&mut self, sequence: u64, buffer: &mut [u8]) -> Option<Range<usize>> {
        let held = std::mem::take(&mut self.held);
        self.in_place(sequence, &mut buffer[..held])
    }

    #[inline]
    fn in_place(&mut self, sequence: u64, record: &mut [u8]) -> Option<Range<usize>> {
        let (header, body) = record.split_first_chunk_mut::<HEADER>()?;
        let (content, tag) = body.split_at_mut(body.len().checked_sub(TAG)?);
        let nonce = Nonce::assume_unique_for_key(nonce(sequence));
        self.key.open_in_place_separate_tag(nonce, Aad::from(*header), tag, content).ok()?;
        without_type(content)
    }
}

/// Decrypted piece by piece, released once the tag has been checked.
struct CutThrough {
    evp: Evp,
    /// Bytes of the record so far.
    taken: usize,
    /// Where in the record the tag begins.
    tag_at: usize,
    tag: [u8; TAG],
    /// Nothing has been refused so far.
    sound: bool,
}

impl CutThrough {
    fn new(suite: Suite) -> Self {
        Self { evp: Evp::new(suite), taken: 0, tag_at: 0, tag: [0; TAG], sound: true }
    }
}

impl Opener for CutThrough {
    #[inline]
    fn piece(&mut self, sequence: u64, mut piece: &[u8], buffer: &mut [u8]) {
        if self.taken == 0 {
            let (header, rest) = piece.split_first_chunk::<HEADER>().expect("a whole header");
            let body = usize::from(u16::from_be_bytes([header[3], header[4]]));
            self.sound = body >= TAG && self.evp.begin(nonce(sequence), *header);
            self.tag_at = HEADER + body.saturating_sub(TAG);
            self.taken = HEADER;
            piece = rest;
        }
        let (content, tag) = piece.split_at(piece.len().min(self.tag_at.saturating_sub(self.taken)));
        if !content.is_empty() {
            self.sound &= self.evp.update(content, &mut buffer[self.taken..self.taken + content.len()]);
            self.taken += content.len();
        }
        if !tag.is_empty() {
            // The tag may be cut as well.
            let at = self.taken - self.tag_at;
            self.tag[at..at + tag.len()].copy_from_slice(tag);
            self.taken += tag.len();
        }
    }

    #[inline]
    fn finish(&mut self, _: u64, buffer: &mut [u8]) -> Option<Range<usize>> {
        let whole = std::mem::take(&mut self.taken) == self.tag_at + TAG;
        // In this order: the context must be finished whatever came before.
        let authentic = self.evp.finish(self.tag) && self.sound && whole;
        if authentic { without_type(&buffer[HEADER..self.tag_at]) } else { None }
    }

    #[inline]
    fn in_place(&mut self, sequence: u64, record: &mut [u8]) -> Option<Range<usize>> {
        let (header, body) = record.split_first_chunk_mut::<HEADER>()?;
        let (content, tag) = body.split_last_chunk_mut::<TAG>()?;
        let authentic =
            self.evp.begin(nonce(sequence), *header) && self.evp.update_in_place(content) && self.evp.finish(*tag);
        if authentic { without_type(content) } else { None }
    }
}

fn key(suite: Suite) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(suite.joined, &KEY[..suite.joined.key_len()]).expect("a key of its length"))
}

/// RFC 8446 5.3: the IV, and the record's number by exclusive or.
#[inline]
fn nonce(sequence: u64) -> [u8; NONCE_LEN] {
    let mut nonce = IV;
    for (byte, number) in nonce[NONCE_LEN - 8..].iter_mut().zip(sequence.to_be_bytes()) {
        *byte ^= number;
    }
    nonce
}

/// Where in the record the application's bytes are: RFC 8446 5.4 puts type and padding behind them, so this is known last.
#[inline]
fn without_type(content: &[u8]) -> Option<Range<usize>> {
    let last = content.iter().rposition(|&byte| byte != 0)?;
    (content[last] == APPLICATION_DATA).then_some(HEADER..HEADER + last)
}

/// A record as the server seals it.
fn seal(key: &LessSafeKey, sequence: u64, plaintext: &[u8], record: &mut Vec<u8>) {
    let [high, low] = u16::try_from(plaintext.len() + 1 + TAG).expect("a record").to_be_bytes();
    let header = [APPLICATION_DATA, 3, 3, high, low];
    record.clear();
    record.extend(header);
    record.extend(plaintext);
    record.push(APPLICATION_DATA);
    let nonce = Nonce::assume_unique_for_key(nonce(sequence));
    let tag = key.seal_in_place_separate_tag(nonce, Aad::from(header), &mut record[HEADER..]).expect("it seals");
    record.extend(tag.as_ref());
}

fn plaintext(len: usize) -> Vec<u8> {
    br#"{"e":"depthUpdate","b":[["61837.63000000","0.02000000"]]}"#.iter().copied().cycle().take(len).collect()
}

/// Opens the record from its pieces.
fn open(opener: &mut dyn Opener, sequence: u64, record: &[u8], segment: usize) -> Option<Vec<u8>> {
    let wire = Wire::new(record, segment);
    // Not zeros: what was not written must not look like padding.
    let mut buffer = vec![0xa5; record.len()];
    let (early, last) = wire.pieces();
    for piece in early.chain([last]) {
        opener.piece(sequence, piece, &mut buffer);
    }
    opener.finish(sequence, &mut buffer).map(|range| buffer[range].to_vec())
}

fn open_in_place(opener: &mut dyn Opener, sequence: u64, record: &[u8]) -> Option<Vec<u8>> {
    let mut record = record.to_vec();
    opener.in_place(sequence, &mut record).map(|range| record[range].to_vec())
}

/// Both ways give the plaintext, whatever the cut, and refuse what was changed; and a refusal spoils no later record.
fn verify(suite: Suite) {
    let key = key(suite);
    let mut ways: [(&str, Box<dyn Opener>); 2] =
        [("joined", Box::new(Joined::new(suite))), ("cut-through", Box::new(CutThrough::new(suite)))];
    let mut record = Vec::new();
    let mut sequence = 0;
    for plaintext_len in ONE_SEGMENT.into_iter().chain(SEVERAL).chain([1, SEGMENT - AROUND + 7]) {
        let plaintext = plaintext(plaintext_len);
        // The longest pieces that leave so many bytes for the last one.
        let leaving =
            |last: usize| (last + 1..=SEGMENT).rev().find(|segment| (plaintext_len + AROUND) % segment == last);
        // The segment's own; odd ones; a last piece with half of the tag, with the tag alone, and with a byte before it.
        let segments = [Some(SEGMENT), Some(1000), Some(17), leaving(TAG / 2), leaving(TAG), leaving(TAG + 1)];
        for segment in segments.into_iter().flatten() {
            sequence += 1;
            seal(&key, sequence, &plaintext, &mut record);
            let first_of_last = (record.len() - 1) / segment * segment;
            for (way, opener) in &mut ways {
                let what = format!("{}, {way}, {plaintext_len} bytes in pieces of {segment}", suite.name);
                // The version (additional data), the first byte, the last piece, the type, the tag's two ends.
                for at in
                    [1, HEADER, first_of_last.max(HEADER), record.len() - TAG - 1, record.len() - TAG, record.len() - 1]
                {
                    let mut forged = record.clone();
                    forged[at] ^= 0x10;
                    assert_eq!(open(&mut **opener, sequence, &forged, segment), None, "{what}: changed at {at}");
                    assert_eq!(open_in_place(&mut **opener, sequence, &forged), None, "{what}: changed at {at}");
                }
                assert_eq!(open(&mut **opener, sequence + 1, &record, segment), None, "{what}: another number");
                let opened = open(&mut **opener, sequence, &record, segment);
                assert!(opened.as_ref() == Some(&plaintext), "{what}: another plaintext");
                let opened = open_in_place(&mut **opener, sequence, &record);
                assert!(opened.as_ref() == Some(&plaintext), "{what}: another plaintext in place");
            }
        }
    }
}

/// Nanoseconds of one way, record by record.
#[derive(Default)]
struct Samples {
    /// From the last segment's arrival to the plaintext.
    last: Vec<u64>,
    /// All that the record takes.
    all: Vec<u64>,
}

/// One cipher and length, opened both ways.
struct Case {
    suite: Suite,
    plaintext: Vec<u8>,
    key: LessSafeKey,
    sequence: u64,
    record: Vec<u8>,
    wire: Wire,
    /// One for both, or each would find its own less warm than it is.
    buffer: Vec<u8>,
    joined: Joined,
    cut_through: CutThrough,
    /// Joined, cut-through.
    samples: [Samples; 2],
}

impl Case {
    fn new(suite: Suite, plaintext_len: usize) -> Self {
        let record = vec![0; plaintext_len + AROUND];
        Self {
            suite,
            plaintext: plaintext(plaintext_len),
            key: key(suite),
            sequence: 0,
            wire: Wire::new(&record, SEGMENT),
            buffer: vec![0; record.len()],
            record,
            joined: Joined::new(suite),
            cut_through: CutThrough::new(suite),
            samples: Default::default(),
        }
    }

    fn round(&mut self) {
        for _ in 0..RECORDS_A_ROUND {
            self.sequence += 1;
            seal(&self.key, self.sequence, &self.plaintext, &mut self.record);
            let [joined, cut_through] = &mut self.samples;
            for turn in 0..2 {
                // Written anew for each: opening in place destroys it, and both shall find it equally warm.
                self.wire.arrive(&self.record);
                if (self.sequence + turn).is_multiple_of(2) {
                    joined.take(&mut self.joined, self.sequence, &mut self.wire, &mut self.buffer);
                } else {
                    cut_through.take(&mut self.cut_through, self.sequence, &mut self.wire, &mut self.buffer);
                }
            }
        }
    }

    fn segments(&self) -> usize {
        self.wire.pieces.len()
    }

    fn last_len(&self) -> usize {
        self.wire.pieces.last().map_or(0, Range::len)
    }

    /// By how much cut-through has the plaintext sooner where segments come as a wire of so many Gbit/s brings them. A segment
    /// that is not done with when the next one arrives, with `rest` nanoseconds for all but its record, holds that one up.
    fn saved_on_wire(&self, gigabits: f64, rest: f64) -> f64 {
        let early = self.segments() - 1;
        let late = self.samples.each_ref().map(|samples| {
            let (last, all) = (median(&samples.last) as f64, median(&samples.all) as f64);
            let each = (all - last).max(0.0) / early.max(1) as f64;
            let (mut arrived, mut done) = (0.0, 0.0_f64);
            for _ in 0..early {
                arrived += wire_ns(SEGMENT, gigabits);
                done = done.max(arrived) + each + rest;
            }
            arrived += wire_ns(self.last_len(), gigabits);
            done.max(arrived) + last - arrived
        });
        late[0] - late[1]
    }
}

impl Samples {
    #[inline]
    fn take(&mut self, opener: &mut impl Opener, sequence: u64, wire: &mut Wire, buffer: &mut [u8]) {
        if wire.pieces.len() == 1 {
            let record = black_box(wire.only());
            let start = Instant::now();
            let opened = opener.in_place(sequence, record).expect("it authenticates");
            black_box(&record[opened]);
            let took = nanoseconds(start, Instant::now());
            self.last.push(took);
            self.all.push(took);
            return;
        }
        let (early, last) = black_box(&*wire).pieces();
        let start = Instant::now();
        for piece in early {
            opener.piece(sequence, piece, buffer);
        }
        let arrived = Instant::now();
        opener.piece(sequence, last, buffer);
        let opened = opener.finish(sequence, buffer).expect("it authenticates");
        black_box(&buffer[opened]);
        let done = Instant::now();
        self.last.push(nanoseconds(arrived, done));
        self.all.push(nanoseconds(start, done));
    }
}

fn nanoseconds(from: Instant, to: Instant) -> u64 {
    u64::try_from((to - from).as_nanos()).unwrap_or(u64::MAX)
}

fn wire_ns(payload: usize, gigabits: f64) -> f64 {
    (payload + SEGMENT_AROUND) as f64 * 8.0 / gigabits
}

fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    let middle = sorted.len() / 2;
    *sorted.select_nth_unstable(middle).1
}

fn least(samples: &[u64]) -> u64 {
    samples.iter().copied().min().unwrap_or(0)
}

fn report(cases: &[Case]) {
    println!("Machine: {}.", machine());
    println!("GCM by {}.", gcm_code());
    let capabilities = std::env::var("OPENSSL_ia32cap").map(|value| format!("OPENSSL_ia32cap={value} "));
    println!("\n```\n{}cargo bench -p wiretick --bench cut_through\n```\n", capabilities.unwrap_or_default());
    println!(
        "Nanoseconds; {} records each way, medians (least). j: joined; c: cut-through. One reading of the clock is in each: {} ns.\n",
        ROUNDS * RECORDS_A_ROUND,
        clock()
    );
    println!(
        "| cipher | plaintext | segments (last) | last segment to plaintext: j | c | j / c | all of the record: j | c | c / j |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|---:|---:|");
    for case in cases {
        let [joined, cut_through] = &case.samples;
        let figure = |samples: &[u64]| format!("{} ({})", median(samples), least(samples));
        let ratio = |over: &[u64], under: &[u64]| format!("{:.2}", median(over) as f64 / median(under) as f64);
        println!(
            "| {} | {} | {} ({}) | {} | {} | {} | {} | {} | {} |",
            case.suite.name,
            case.plaintext.len(),
            case.segments(),
            case.last_len(),
            figure(&joined.last),
            figure(&cut_through.last),
            ratio(&joined.last, &cut_through.last),
            figure(&joined.all),
            figure(&cut_through.all),
            ratio(&cut_through.all, &joined.all),
        );
    }
    println!(
        "\nBy how many nanoseconds cut-through has the plaintext sooner, computed from the medians: where full segments come {:.2} us \
         apart (10 Gbit/s), {:.2} us (25 Gbit/s), or are all there at once; with the opening alone, and with {REST_OF_STACK:.0} ns for \
         the rest of what a segment costs the thread.\n",
        wire_ns(SEGMENT, 10.0) / 1000.0,
        wire_ns(SEGMENT, 25.0) / 1000.0
    );
    println!("| cipher | plaintext | 10 Gbit/s: alone | with the rest | 25 Gbit/s: alone | with the rest | at once |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for case in cases.iter().filter(|case| case.segments() > 1) {
        let mut row = format!("| {} | {} |", case.suite.name, case.plaintext.len());
        for gigabits in [10.0, 25.0] {
            for rest in [0.0, REST_OF_STACK] {
                row += &format!(" {:.0} |", case.saved_on_wire(gigabits, rest));
            }
        }
        let [joined, cut_through] = case.samples.each_ref().map(|samples| median(&samples.all) as f64);
        println!("{row} {:.0} |", joined - cut_through);
    }
}

/// What a reading of the clock costs.
fn clock() -> u64 {
    let readings: Vec<u64> = (0..10_000).map(|_| nanoseconds(Instant::now(), Instant::now())).collect();
    median(&readings)
}

fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let processor = field("model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned());
    // All there are, not only those that this process was given.
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    let is_virtual = field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    format!(
        "{processor}, {cores} cores, Linux {}{}",
        read("/proc/sys/kernel/osrelease").trim(),
        if is_virtual { ", a virtual machine" } else { "" }
    )
}

/// Which of AWS-LC's ways through GCM this processor takes: they differ in what a piece of any length costs.
fn gcm_code() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::is_x86_feature_detected as has;
        if std::env::var_os("OPENSSL_ia32cap").is_some() {
            "what OPENSSL_ia32cap leaves of the processor"
        } else if has!("avx512f") && has!("vaes") && has!("vpclmulqdq") {
            "VAES and AVX-512"
        } else {
            "AES-NI, without AVX-512"
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::env::consts::ARCH
}
