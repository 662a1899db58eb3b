//! `route.rs`: options that lead packets elsewhere.

use crate::fixture::{set, structure};
use crate::kernel::member;
use crate::route::{is_in, is_option};

const IP: u32 = 0;
const IPV6: u32 = 41;

#[test]
fn options_that_name_a_route_are_known() {
    for (level, option) in [(IP, 4), (IPV6, 57), (IPV6, 6), (IPV6, 32)] {
        assert!(is_option(level, option), "{level} {option}");
    }
    for (level, option) in [(IP, 1), (IP, 57), (IPV6, 4), (IPV6, 26), (1, 4), (6, 57)] {
        assert!(!is_option(level, option), "{level} {option}");
    }
}

/// A piece of control data that says it has this length, with its padding.
fn control(level: u32, kind: u32, length: u64) -> Vec<u8> {
    let mut bytes = [&length.to_ne_bytes()[..], &level.to_ne_bytes(), &kind.to_ne_bytes()].concat();
    bytes.resize((length.max(16) as usize).next_multiple_of(8), 0xff);
    bytes
}

fn has_route(data: &[u8]) -> bool {
    let message = structure();
    set(member!(message, msg_controllen), data.len() as u64);
    set(member!(message, msg_control), data.as_ptr() as u64);
    is_in(message)
}

#[test]
fn control_data_is_read_to_its_end() {
    let plain = |length| control(IP, 1, length);
    let [route4, route6, old_route6] = [control(IP, 7, 24), control(IPV6, 57, 40), control(IPV6, 5, 40)];
    for route in [&route4, &route6, &old_route6] {
        assert!(has_route(route));
        for length in 16..=40 {
            assert!(has_route(&[plain(length), plain(16), route.clone()].concat()), "{length}");
        }
        let fifteen = plain(20).repeat(15);
        assert!(has_route(&[fifteen, route.clone()].concat()));
    }
    assert!(!has_route(&[]));
    assert!(!has_route(&[plain(20), control(IP, 4, 24), control(1, 57, 20), control(IPV6, 50, 36)].concat()));
}

#[test]
fn control_data_that_isnt_read_to_its_end_counts_as_a_route() {
    assert!(!has_route(&control(IP, 1, 20).repeat(16)));
    assert!(has_route(&control(IP, 1, 20).repeat(17)));
}

#[test]
fn control_data_that_the_kernel_refuses_has_no_route() {
    let route = control(IP, 7, 24);
    for length in [0, 8, 15, 1000, u64::MAX] {
        let mut broken = control(IP, 1, 16);
        broken[..8].copy_from_slice(&length.to_ne_bytes());
        assert!(!has_route(&[broken, route.clone()].concat()), "{length}");
    }
    assert!(!has_route(&route[..15]));
}
