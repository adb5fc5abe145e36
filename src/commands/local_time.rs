//! Times in the time zone of the user, for text. JSON and the log use UTC.

use jiff::{Timestamp, tz::TimeZone};

use crate::domain::time::UnixMs;

/// Formats a time in the system's zone: `2026-03-01 11:00:00 +01:00`. A zone that cannot be read
/// counts as UTC.
pub fn format_local(at: UnixMs) -> String {
    format_in(at, TimeZone::system())
}

fn format_in(at: UnixMs, zone: TimeZone) -> String {
    match Timestamp::from_millisecond(at.0) {
        Ok(time) => time.to_zoned_datetime(zone).strftime("%Y-%m-%d %H:%M:%S %:z").to_string(),
        // Outside of the years from -9999 to 9999.
        Err(_out_of_range) => at.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_the_offset_of_its_zone() {
        let at = UnixMs::parse("2026-03-01T10:00:00.999Z").unwrap();
        let zone = |posix: &str| TimeZone::posix(posix).unwrap();
        assert_eq!(format_in(at, zone("CET-1CEST,M3.5.0,M10.5.0/3")), "2026-03-01 11:00:00 +01:00");
        let summer = UnixMs::parse("2026-07-01T22:30:00Z").unwrap();
        let text = format_in(summer, zone("CET-1CEST,M3.5.0,M10.5.0/3"));
        assert_eq!(text, "2026-07-02 00:30:00 +02:00");
        assert_eq!(format_in(at, zone("NST3:30")), "2026-03-01 06:30:00 -03:30");
        assert_eq!(format_in(at, TimeZone::UTC), "2026-03-01 10:00:00 +00:00");
        assert_eq!(format_in(UnixMs(i64::MAX), TimeZone::UTC), UnixMs(i64::MAX).to_string());
    }
}
