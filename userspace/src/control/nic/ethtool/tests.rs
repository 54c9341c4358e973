//! What real kernels have answered, read; and what NICs that are not here would answer.

use netlink_packet_core::Emitable as _;

use super::super::feature;
use super::super::recorded::{VETH, VIRTIO_NET, answer};
use super::*;
use crate::control::genetlink::text;

/// Attributes as a driver that is not here would fill them in.
fn bytes(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

#[test]
fn channels_and_rings_are_now_and_at_most() {
    let channels = read_channels(Attributes(&answer(VIRTIO_NET, "channels")));
    assert_eq!(channels, Channels { combined: (1, 1), ..Channels::default() });
    let veth = read_channels(Attributes(&answer(VETH, "channels")));
    assert_eq!(veth, Channels { rx: (2, 2), tx: (2, 2), combined: (0, 0) });
    assert_eq!((channels.receiving(), veth.receiving()), (1, 2));
    let rings = read_rings(Attributes(&answer(VIRTIO_NET, "rings")));
    assert_eq!((rings.rx, rings.tx, rings.tcp_data_split), ((256, 256), (256, 256), false));
}

#[test]
fn data_split_counts_only_where_it_is_enabled() {
    for (value, expected) in [(0, false), (1, false), (2, true)] {
        let rings = read_rings(Attributes(&bytes(&[DefaultNla::new(ETHTOOL_A_RINGS_TCP_DATA_SPLIT, vec![value])])));
        assert_eq!(rings.tcp_data_split, expected, "{value}");
    }
}

#[test]
fn coalescing_is_told_or_not() {
    let virtio = read_coalescing(Attributes(&answer(VIRTIO_NET, "coalesce")));
    assert_eq!(virtio, Coalescing { rx_usecs: Some(0), rx_frames: Some(1), adaptive_rx: Some(false) });
    assert_eq!(read_coalescing(Attributes(&[])), Coalescing::default());
}

#[test]
fn features_are_on_or_off_and_can_be_switched_or_not() {
    let features = read_features(Attributes(&answer(VIRTIO_NET, "features")));
    assert!(features[feature::GRO].on && features[feature::GRO].changeable);
    assert!(!features[feature::LRO].on, "{features:?}");
    assert!(!features[feature::RX_VLAN].on && !features[feature::RX_VLAN].changeable);
    assert!(!features[feature::NTUPLE].on);
    assert!(features.contains_key(feature::GRO_HW));
    assert!(features.len() > 50 && features.keys().all(|name| !name.is_empty()), "{}", features.len());
    let veth = read_features(Attributes(&answer(VETH, "features")));
    assert!(veth[feature::RX_VLAN].on, "{:?}", veth[feature::RX_VLAN]);
}

#[test]
fn a_clock_and_its_filters_are_told() {
    let software = read_timestamps(Attributes(&answer(VIRTIO_NET, "tsinfo")));
    assert_eq!(software, Timestamps::default());
    // As igc would: filters none and all, clock 2.
    let bit = |name: &str| nest(ETHTOOL_A_BITSET_BITS_BIT, &[text(ETHTOOL_A_BITSET_BIT_NAME, name)]);
    let filters = nest(
        ETHTOOL_A_TSINFO_RX_FILTERS,
        &[DefaultNla::new(1, Vec::new()), nest(ETHTOOL_A_BITSET_BITS, &[bit("none"), bit("all")])],
    );
    let told = read_timestamps(Attributes(&bytes(&[filters, number(ETHTOOL_A_TSINFO_PHC_INDEX, 2)])));
    assert_eq!(told, Timestamps { rx_filters: vec!["all".to_owned()], clock: Some(2) });
}

#[test]
fn the_weight_of_a_queue_is_its_share_of_the_table() {
    let table: Vec<u8> = (0..128_u32).flat_map(|entry| (entry % 3).to_ne_bytes()).collect();
    let rss = read_rss(Attributes(&bytes(&[DefaultNla::new(ETHTOOL_A_RSS_INDIR, table)]))).unwrap();
    assert_eq!(rss.weights, BTreeMap::from([(0, 43), (1, 43), (2, 42)]));
    // virtio without RSS answers, but has no table.
    assert_eq!(read_rss(Attributes(&answer(VIRTIO_NET, "rss"))), None);
}

#[test]
fn private_flags_are_told_by_name() {
    let bit = |name: &str, on: bool| {
        let mut bit = vec![text(ETHTOOL_A_BITSET_BIT_NAME, name)];
        if on {
            bit.push(DefaultNla::new(ETHTOOL_A_BITSET_BIT_VALUE, Vec::new()));
        }
        nest(ETHTOOL_A_BITSET_BITS_BIT, &bit)
    };
    let set = bytes(&[nest(ETHTOOL_A_BITSET_BITS, &[bit("rx_cqe_moder", true), bit("rx_striding_rq", false)])]);
    assert_eq!(bits(Attributes(&set)), [("rx_cqe_moder".to_owned(), true), ("rx_striding_rq".to_owned(), false)]);
}
