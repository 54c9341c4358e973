//! What is given up when frames contradict it, and what is an error then.

use super::rss::Rss;
use super::*;

const TUPLE: &str = "192.0.2.1:40000 198.51.100.7:443";

fn tuple() -> FourTuple {
    let (local, remote) = TUPLE.split_once(' ').unwrap();
    FourTuple { local: local.parse().unwrap(), remote: remote.parse().unwrap() }
}

/// Of an interface that is not there any more: what its driver says cannot be asked again.
fn steered(driver: &str, means: Means, queue: u32) -> Steered {
    let survey = Survey {
        interface: "wt-none0".to_owned(),
        index: 1,
        driver: driver.to_owned(),
        queues: Some(4),
        no_ntuple: String::new(),
    };
    let tuple = tuple();
    let approach = Approach { peer: tuple.remote, source: tuple.local.ip(), leaves: 1, vlan: None, survey };
    let plan = match means {
        Means::Ntuple => Plan::Ntuple(None),
        Means::Port => {
            let rss = Rss {
                driver: driver.to_owned(),
                key: (1..=40).collect(),
                key_is_kernels: false,
                table: vec![queue],
                function: 1,
                transform: 0,
                fields_ipv4: None,
                fields_ipv6: None,
            };
            let reading = Reading::possible(driver)[0];
            let predictor = rss.predictor(reading, false).unwrap();
            let prediction = predictor.predict(&tuple);
            Plan::Port(predictor, reading, Some(prediction))
        }
    };
    Steered { plan, approach: Some(approach), ..Steered::default() }
}

#[test]
fn what_frames_contradict_is_given_up_one_by_one_and_said() {
    let steering = Steering::new(Steer::Auto, 1);
    let mut by_rule = steered("ice", Means::Ntuple, 1);
    assert!(steering.contradicted(&mut by_rule, &tuple(), 3).unwrap(), "the port is left");
    assert_eq!(by_rule.seen(), Some(3));
    let mut by_port = steered("ice", Means::Port, 1);
    assert!(!steering.contradicted(&mut by_port, &tuple(), 2).unwrap(), "nothing is left");
    let [(Means::Ntuple, ntuple), (Means::Port, port)] = &steering.refusals()[..] else {
        panic!("{:?}", steering.refusals())
    };
    assert!(ntuple.contains("frames came on queue 3"), "{ntuple}");
    assert!(port.starts_with("wt-none0: the RSS table says queue 1 (hash 0x"), "{port}");
    assert!(port.ends_with("entry 0 of 1), key as shown; frames came on queue 2"), "{port}");
    // What was not steered cannot be contradicted.
    assert!(!steering.contradicted(&mut Steered::default(), &tuple(), 2).unwrap());
}

#[test]
fn what_was_asked_for_by_name_is_an_error_until_it_has_worked_once() {
    for (steer, means) in [(Steer::Ntuple, Means::Ntuple), (Steer::Port, Means::Port)] {
        let steering = Steering::new(steer, 1);
        let error = steering.contradicted(&mut steered("ice", means, 1), &tuple(), 2).unwrap_err();
        assert!(matches!(error, Error::Steering { means: refused, .. } if refused == means), "{error}");
        let mut good = steered("ice", means, 1);
        steering.confirmed(&mut good);
        assert_eq!(good.seen(), Some(1));
        assert!(!steering.contradicted(&mut steered("ice", means, 1), &tuple(), 2).unwrap());
    }
}

#[test]
fn each_reading_of_enas_key_is_tried_before_the_port_is_given_up() {
    let steering = Steering::new(Steer::Port, 1);
    let readings = Reading::possible("ena").len();
    for _ in 1..readings {
        assert!(steering.contradicted(&mut steered("ena", Means::Port, 1), &tuple(), 2).unwrap());
    }
    assert_eq!(steering.state().readings, readings - 1);
    assert!(steering.contradicted(&mut steered("ena", Means::Port, 1), &tuple(), 2).is_err());
}

#[test]
fn another_interface_begins_anew() {
    let steering = Steering::new(Steer::Auto, 1);
    steering.state().look_at("wt-none0");
    steering.contradicted(&mut steered("ice", Means::Port, 1), &tuple(), 2).unwrap();
    steering.state().look_at("wt-none0");
    assert_eq!(steering.refusals().len(), 1);
    steering.state().look_at("wt-none1");
    assert_eq!(steering.refusals(), []);
}

#[test]
fn loopback_needs_nothing_and_a_route_that_is_not_there_is_said() {
    let steering = Steering::new(Steer::Auto, 0);
    // It was made with one queue.
    let steered = steering.begin(([127, 0, 0, 1], 443).into(), None, None).unwrap();
    assert_eq!((steered.means(), steered.to_string().as_str()), (None, "lo has one receive queue"));
    assert!(!steered.is_worth_telling());
    let steered = steering.begin(([127, 0, 0, 1], 443).into(), None, Some("wt-none0")).unwrap();
    assert!(steered.to_string().contains("wt-none0: no such interface"), "{steered}");
    let explicit = Steering::new(Steer::Port, 0).begin(([127, 0, 0, 1], 443).into(), None, Some("wt-none0"));
    assert!(matches!(explicit, Err(Error::NoInterface { .. })));
    let nothing = Steering::new(Steer::None, 0).begin(([127, 0, 0, 1], 443).into(), None, None).unwrap();
    assert_eq!(nothing.to_string(), "");
}
