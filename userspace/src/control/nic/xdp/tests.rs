//! What real kernels have answered, read.

use super::super::recorded::{VETH, VIRTIO_NET, answer, answers};
use super::*;
use crate::control::genetlink::Attributes;

#[test]
fn features_are_what_the_kernel_says() {
    let virtio = read_features(Attributes(&answer(VIRTIO_NET, "dev")));
    assert_eq!(
        virtio,
        XdpFeatures {
            native: true,
            redirect: true,
            zero_copy: true,
            frags: true,
            zero_copy_segments: 1,
            ..XdpFeatures::default()
        }
    );
    let veth = read_features(Attributes(&answer(VETH, "dev")));
    assert!(veth.native && veth.redirect && veth.frags && !veth.zero_copy, "{veth:?}");
    assert!(veth.rx_timestamp && veth.rx_hash && veth.rx_vlan_tag, "{veth:?}");
}

#[test]
fn queues_know_their_napi_where_the_driver_links_it() {
    let read = |recorded| -> Vec<_> {
        answers(recorded, "queue").iter().filter_map(|answer| read_queue(Attributes(answer))).collect()
    };
    // Of two answers, one is about the transmit queue.
    assert_eq!(read(VIRTIO_NET), [Queue { number: 0, napi: Some(257), has_xsk: false }]);
    assert_eq!(
        read(VETH),
        [0, 1].map(|number| Queue { number, napi: None, has_xsk: false }),
        "a veth polls nothing until a program is attached"
    );
}

#[test]
fn nothing_is_claimed_of_an_answer_that_says_nothing() {
    let nothing = read_features(Attributes(&[]));
    assert_eq!(nothing, XdpFeatures { zero_copy_segments: 1, ..XdpFeatures::default() });
    assert_eq!(read_queue(Attributes(&[])), None);
}

#[test]
fn features_beyond_those_known_change_nothing() {
    let mut bytes = answer(VIRTIO_NET, "dev");
    let before = read_features(Attributes(&bytes));
    // The highest bit of xdp-features, which is behind the interface's index.
    bytes[8 + 4 + 7] |= 0x80;
    assert_eq!(read_features(Attributes(&bytes)), before);
}
