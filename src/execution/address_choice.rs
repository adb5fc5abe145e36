//! Decides when the order connections move to another address of the market. Pure.
//!
//! One fast measurement may be chance, and a move costs each connection a handshake. So an address
//! must be clearly faster than the current one in two measurements in a row.

use std::{net::IpAddr, time::Duration};

use crate::net::address_latency::is_faster;

/// Addresses that were faster in the last measurement.
#[derive(Debug, Default)]
pub(super) struct AddressChoice {
    faster: Vec<IpAddr>,
}

impl AddressChoice {
    /// Evaluates the round trips of a measurement, which omits addresses without one. Returns the
    /// address to which the connections must move from the current one, if any.
    pub(super) fn on_measurement(
        &mut self,
        current: IpAddr,
        round_trips: &[(IpAddr, Duration)],
    ) -> Option<IpAddr> {
        let of_current = round_trips.iter().find(|(address, _)| *address == current);
        let mut faster: Vec<(Duration, IpAddr)> = round_trips
            .iter()
            .filter(|(_, latency)| of_current.is_some_and(|(_, than)| is_faster(*latency, *than)))
            .map(|(address, latency)| (*latency, *address))
            .collect();
        faster.sort_unstable();
        let faster: Vec<IpAddr> = faster.into_iter().map(|(_latency, address)| address).collect();
        let chosen = faster.iter().find(|address| self.faster.contains(address)).copied();
        self.faster = if chosen.is_some() { Vec::new() } else { faster };
        chosen
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    /// Returns the moves of connections that begin at address 1, for measurements of addresses 1,
    /// 2 and 3 in milliseconds; 0 is a failed one.
    fn moves(measurements: &[[u64; 3]]) -> Vec<Option<u8>> {
        let (mut choice, mut current) = (AddressChoice::default(), 1);
        let decide = |measured: &[u64; 3]| {
            let of = (1_u8..).zip(measured).filter(|(_, ms)| **ms > 0);
            let of: Vec<_> = of.map(|(last, ms)| (ip(last), Duration::from_millis(*ms))).collect();
            let chosen = choice.on_measurement(ip(current), &of)?;
            current = (1..=3).find(|last| ip(*last) == chosen).unwrap();
            Some(current)
        };
        measurements.iter().map(decide).collect()
    }

    #[test]
    fn the_second_clearly_faster_measurement_in_a_row_moves() {
        assert_eq!(moves(&[[50, 30, 0], [50, 30, 0]]), [None, Some(2)]);
        assert_eq!(moves(&[[50, 30, 0], [50, 49, 0], [50, 30, 0]]), [None; 3], "not in a row");
        assert_eq!(moves(&[[50, 40, 40], [50, 40, 40]]), [None; 2], "exactly 20 %");
        assert_eq!(moves(&[[50, 30, 60], [50, 60, 30]]), [None; 2], "not the same address");
        assert_eq!(moves(&[[50, 30, 20], [50, 30, 60]]), [None, Some(2)]);
        assert_eq!(moves(&[[50, 30, 20], [50, 30, 20]]), [None, Some(3)], "the fastest of both");
    }

    #[test]
    fn a_move_back_needs_two_further_measurements() {
        let measurements = [[50, 30, 0], [50, 30, 0], [20, 50, 0], [20, 50, 0]];
        assert_eq!(moves(&measurements), [None, Some(2), None, Some(1)]);
    }

    #[test]
    fn one_address_or_an_unmeasured_current_one_moves_nothing() {
        assert_eq!(moves(&[[50, 0, 0], [50, 0, 0]]), [None; 2]);
        assert_eq!(moves(&[[0, 10, 10], [0, 10, 10]]), [None; 2]);
        assert_eq!(moves(&[[50, 10, 0], [0, 10, 0], [50, 10, 0]]), [None; 3]);
    }

    proptest! {
        #[test]
        fn a_move_always_goes_to_an_address_that_was_faster_twice(
            measurements in prop::collection::vec(prop::array::uniform3(0_u64..100), 0..20)
        ) {
            let mut current = 1_u8;
            let mut before: Option<[u64; 3]> = None;
            for (measured, moved) in measurements.iter().zip(moves(&measurements)) {
                if let Some(to) = moved {
                    let of = |measured: &[u64; 3], last: u8| measured[usize::from(last) - 1];
                    for measured in [&before.unwrap(), measured] {
                        let (other, than) = (of(measured, to), of(measured, current));
                        prop_assert!(other > 0 && other + 1 < than && other * 5 < than * 4);
                    }
                    current = to;
                }
                before = Some(*measured);
            }
        }
    }
}
