//! Answers of real kernels, as recorded: for each question, the attributes of each answer in hexadecimal.

/// `virtio_net` on Linux 6.18, one queue.
pub(super) const VIRTIO_NET: &str = include_str!("virtio_net-6.18.txt");
/// A veth on Linux 6.18, two queues, both ends up, no program attached.
pub(super) const VETH: &str = include_str!("veth-6.18.txt");

/// The answers to a question.
pub(super) fn answers(recorded: &str, question: &str) -> Vec<Vec<u8>> {
    let answer = |line: &str| {
        let (name, hex) = line.split_once(' ')?;
        let hex = hex.as_bytes();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        (name == question).then(|| hex.chunks(2).map(byte).collect::<Option<Vec<_>>>())?
    };
    let found: Vec<_> = recorded.lines().filter_map(answer).collect();
    assert!(!found.is_empty(), "nothing recorded for {question}");
    found
}

/// The one answer to a question.
pub(super) fn answer(recorded: &str, question: &str) -> Vec<u8> {
    answers(recorded, question).pop().unwrap_or_default()
}
