//! Conversion of recorded times to the clock of this run. Pure.
//!
//! A record contains the wall clock of the run that wrote it and the machine's uptime. The wall
//! clock may have been set since. Records of the current boot are therefore converted by their
//! uptime; records of other boots keep their wall clock.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use super::{
    event::{BootId, LedgerEvent},
    record::Record,
};
use crate::domain::time::UnixMs;

/// Converts records to the clock of this run. Records must be passed in their order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeline {
    boot: BootId,
    /// Clock of this run less the machine's uptime, in milliseconds.
    offset_ms: Option<i64>,
    /// `true` while the records are of the current boot.
    is_this_boot: bool,
}

impl Timeline {
    /// Creates a timeline for a run whose clock was `now` at the uptime `uptime_ms`.
    pub(super) fn new(boot: BootId, uptime_ms: Option<u64>, now: UnixMs) -> Self {
        let uptime_ms = uptime_ms.and_then(|ms| i64::try_from(ms).ok());
        let offset_ms = uptime_ms.map(|uptime| now.0.saturating_sub(uptime));
        Self { boot, offset_ms, is_this_boot: false }
    }

    /// Returns the uptime at a moment of this run.
    pub(super) fn uptime_ms(&self, at: UnixMs) -> Option<u64> {
        self.offset_ms.and_then(|offset| u64::try_from(at.0.saturating_sub(offset)).ok())
    }

    /// Returns the converted time of a record, and its event with converted moments.
    pub(super) fn convert(&mut self, record: &Record) -> (UnixMs, LedgerEvent) {
        if let LedgerEvent::Started { boot } = record.event {
            self.is_this_boot = boot == self.boot && boot != BootId::default();
        }
        let uptime_ms = record.uptime_ms.and_then(|ms| i64::try_from(ms).ok());
        let converted = self.offset_ms.zip(uptime_ms).filter(|_known| self.is_this_boot);
        let Some((offset, uptime)) = converted else { return (record.at, record.event) };
        let at = UnixMs(offset.saturating_add(uptime));
        let moved_ms = at.0.saturating_sub(record.at.0);
        let moved = |moment: UnixMs| UnixMs(moment.0.saturating_add(moved_ms));
        let event = match record.event {
            LedgerEvent::Balance { coins, as_of } => {
                LedgerEvent::Balance { coins, as_of: moved(as_of) }
            }
            LedgerEvent::Paused { until } => LedgerEvent::Paused { until: moved(until) },
            other => other,
        };
        (at, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::money::Amount;

    const BOOT: BootId = BootId(7);

    fn record(at: i64, uptime_ms: Option<u64>, event: LedgerEvent) -> Record {
        Record { position: 1, at: UnixMs(at), uptime_ms, event }
    }

    #[test]
    fn records_of_this_boot_are_converted_by_their_uptime() {
        // The wall clock was set forward by an hour between the runs.
        let mut timeline = Timeline::new(BOOT, Some(10_000), UnixMs(3_600_000 + 10_000));
        let started =
            timeline.convert(&record(1_000, Some(1_000), LedgerEvent::Started { boot: BOOT }));
        assert_eq!(started.0, UnixMs(3_600_000 + 1_000));
        let balance = LedgerEvent::Balance { coins: Amount::ZERO, as_of: UnixMs(1_990) };
        let moved = LedgerEvent::Balance { coins: Amount::ZERO, as_of: UnixMs(3_600_000 + 1_990) };
        let converted = timeline.convert(&record(2_000, Some(2_000), balance));
        assert_eq!(converted, (UnixMs(3_600_000 + 2_000), moved));
        let paused = LedgerEvent::Paused { until: UnixMs(2_500) };
        let moved = LedgerEvent::Paused { until: UnixMs(3_600_000 + 2_500) };
        assert_eq!(timeline.convert(&record(2_000, Some(2_000), paused)).1, moved);
        assert_eq!(timeline.uptime_ms(UnixMs(3_600_000 + 2_000)), Some(2_000));
    }

    #[test]
    fn records_of_another_boot_or_without_an_uptime_keep_their_wall_clock() {
        let mut timeline = Timeline::new(BOOT, Some(10_000), UnixMs(99_000_000));
        let other = LedgerEvent::Started { boot: BootId(8) };
        assert_eq!(timeline.convert(&record(5, Some(1), other)), (UnixMs(5), other));
        let event = LedgerEvent::Baselined;
        assert_eq!(timeline.convert(&record(6, Some(2), event)), (UnixMs(6), event));
        let this = LedgerEvent::Started { boot: BOOT };
        assert_eq!(timeline.convert(&record(7, None, this)), (UnixMs(7), this));
        let unknown = LedgerEvent::Started { boot: BootId(0) };
        let mut nameless = Timeline::new(BootId(0), Some(1), UnixMs(50));
        assert_eq!(nameless.convert(&record(8, Some(1), unknown)).0, UnixMs(8));
    }
}
