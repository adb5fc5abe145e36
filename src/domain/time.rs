//! Wall-clock time in UTC with milliseconds, and its text form.
//!
//! [`UnixMs`] is a time on the wall clock of this machine or of the server, or on the clock of
//! [`clock::now`](crate::clock::now), which cannot be set. Each use documents which.
#![cfg_attr(not(test), warn(clippy::arithmetic_side_effects))]

use std::{
    fmt,
    time::{Duration, Instant},
};

const NS_PER_MS: u64 = 1_000_000;
const MS_PER_DAY: i64 = 86_400_000;

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// Parses `2026-03-01T10:00:00.120Z`, the form that the market uses.
    ///
    /// The fraction is optional and has one to nine digits, of which three are used. Other time
    /// zones than UTC are rejected, because a wrong offset would send an order at the wrong time.
    #[inline]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        match <&[u8; 24]>::try_from(bytes).ok() {
            Some(whole) => to_the_millisecond(whole),
            None => parse_other(bytes),
        }
    }

    /// Converts nanoseconds since 1970, as recordings have them. Rounds down.
    #[must_use]
    pub fn from_nanos(ns: u64) -> Self {
        Self(i64::try_from(ns / NS_PER_MS).unwrap_or(i64::MAX))
    }

    /// Adds a duration, saturating.
    #[must_use]
    pub fn plus(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Subtracts a duration, saturating.
    #[must_use]
    pub fn minus(self, wait: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Returns the duration since `earlier`, or zero if `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// Formats as `2026-03-01T10:00:00.120Z`.
impl fmt::Display for UnixMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, ms) = (self.0.div_euclid(MS_PER_DAY), self.0.rem_euclid(MS_PER_DAY));
        let (year, month, day) = civil_from_days(days);
        let (seconds, ms) = (ms / 1_000, ms % 1_000);
        let (minutes, second) = (seconds / 60, seconds % 60);
        let (hour, minute) = (minutes / 60, minutes % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
    }
}

/// Time with the offset of a zone from UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetTime {
    pub at: UnixMs,
    /// Seconds east of UTC.
    pub offset_s: i32,
}

impl OffsetTime {
    /// Returns the time as if the zone's clock showed UTC.
    pub fn shifted(self) -> UnixMs {
        UnixMs(self.at.0.saturating_add(i64::from(self.offset_s).saturating_mul(1_000)))
    }

    /// Formats as `2026-03-01 11:00:00 +01:00`.
    pub fn to_the_second(self) -> String {
        let (text, zone) = (self.shifted().to_string(), self.zone());
        let text = text.split('.').next().unwrap_or_default().replacen('T', " ", 1);
        format!("{text} {zone}")
    }

    /// Formats the offset as `+01:00`.
    pub fn zone(self) -> String {
        let minutes = self.offset_s.unsigned_abs() / 60;
        let sign = if self.offset_s < 0 { '-' } else { '+' };
        format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }

    /// Returns the number of the day since 1970 in the zone.
    pub fn day(self) -> i64 {
        self.shifted().0.div_euclid(MS_PER_DAY)
    }
}

/// Formats as `2026-03-01T11:00:00.120+01:00`.
impl fmt::Display for OffsetTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.shifted().to_string();
        write!(f, "{}{}", text.trim_end_matches('Z'), self.zone())
    }
}

/// Parses a timestamp without a fraction, or with another number of digits than three.
#[cold]
fn parse_other(bytes: &[u8]) -> Option<UnixMs> {
    let (to_the_second, tail) = bytes.split_first_chunk::<19>()?;
    let ms = fraction_ms(tail)?;
    let mut whole = *b"0000-00-00T00:00:00.000Z";
    whole.first_chunk_mut::<19>()?.copy_from_slice(to_the_second);
    to_the_millisecond(&whole).map(|moment| UnixMs(moment.0.saturating_add(ms)))
}

/// Parses `2026-03-01T10:00:00.120Z`, eight characters at a time.
#[inline]
#[expect(clippy::arithmetic_side_effects, reason = "each digit is at most 9; nothing overflows")]
fn to_the_millisecond(whole: &[u8; 24]) -> Option<UnixMs> {
    const DIGIT: u8 = 0x7F - 9;
    const OTHER: u8 = 0x7F;
    let (&[date, hours, seconds], _nothing) = whole.as_chunks::<8>() else { return None };
    let two = |tens: u8, ones: u8| i64::from(tens * 10 + ones);
    let [y1, y2, y3, y4, _, o1, o2, _] =
        digits_of(date, *b"0000-00-", [DIGIT, DIGIT, DIGIT, DIGIT, OTHER, DIGIT, DIGIT, OTHER])?;
    let [d1, d2, _, h1, h2, _, m1, m2] =
        digits_of(hours, *b"00T00:00", [DIGIT, DIGIT, OTHER, DIGIT, DIGIT, OTHER, DIGIT, DIGIT])?;
    let [_, s1, s2, _, f1, f2, f3, _] =
        digits_of(seconds, *b":00.000Z", [OTHER, DIGIT, DIGIT, OTHER, DIGIT, DIGIT, DIGIT, OTHER])?;
    let (year, month, day) = (two(y1, y2) * 100 + two(y3, y4), two(o1, o2), two(d1, d2));
    let (hour, minute, second) = (two(h1, h2), two(m1, m2), two(s1, s2));
    let in_range = (1..=12).contains(&month)
        && (1..=days_in(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 61;
    let ms = i64::from(f1) * 100 + two(f2, f3);
    let of_day = ((hour * 60 + minute) * 60 + second) * 1_000 + ms;
    in_range.then(|| UnixMs(days_from_civil(year, month, day) * MS_PER_DAY + of_day))
}

/// Returns the digits of eight characters that match `form`, in which `0` matches any digit.
///
/// XOR with `form` turns a digit into its value, at most 9, and a matching other character into 0.
/// Adding `room` sets the highest bit of every byte that is larger.
#[inline]
fn digits_of(text: [u8; 8], form: [u8; 8], room: [u8; 8]) -> Option<[u8; 8]> {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let left = u64::from_le_bytes(text) ^ u64::from_le_bytes(form);
    let above = left.wrapping_add(u64::from_le_bytes(room));
    ((left | above) & HIGH == 0).then(|| left.to_le_bytes())
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0_i64, |value, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(i64::from(digit))
    })
}

fn fraction_ms(tail: &[u8]) -> Option<i64> {
    let (last, tail) = tail.split_last()?;
    if *last != b'Z' {
        return None;
    }
    match tail.split_first() {
        None => Some(0),
        Some((b'.', fraction)) if (1..=9).contains(&fraction.len()) => {
            digits(fraction)?;
            let digit = |index| fraction.get(index).copied().unwrap_or(b'0');
            digits(&[digit(0), digit(1), digit(2)])
        }
        Some(_) => None,
    }
}

/// Formats a duration for users: `4.2 s`, `3 min 20 s`, `2 h 5 min`.
pub fn format_duration(duration: Duration) -> String {
    match duration.as_secs() {
        0..60 => format!("{}.{} s", duration.as_secs(), duration.subsec_millis() / 100),
        seconds @ 60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
    }
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Returns the days since 1970-01-01 in the Gregorian calendar. Counts in eras of 400 years that
/// begin on March 1, so that the leap day is the last day of a year.
#[expect(clippy::arithmetic_side_effects, reason = "a year has four digits; nothing overflows")]
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Returns year, month and day of a number of days; the inverse of [`days_from_civil`].
#[expect(clippy::arithmetic_side_effects, reason = "i64::MAX ms is far below i64::MAX days")]
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// Minimum time in suspend between two checks that counts as a suspend of the system. After one,
/// the connections are taken for dead.
const SUSPEND_MIN: Duration = Duration::from_secs(5);

/// Detects that the system was suspended: the monotonic clock stops during a suspend, and
/// [`clock::now`](crate::clock::now) does not.
#[derive(Clone, Copy, Debug)]
pub struct SuspendDetector {
    monotonic: Instant,
    steady: UnixMs,
}

impl SuspendDetector {
    /// Creates a detector. `steady` is a reading of [`clock::now`](crate::clock::now).
    pub const fn new(monotonic: Instant, steady: UnixMs) -> Self {
        Self { monotonic, steady }
    }

    /// Returns `true` if the system was suspended since the last check.
    pub fn check(&mut self, monotonic: Instant, steady: UnixMs) -> bool {
        let last = std::mem::replace(self, Self { monotonic, steady });
        let awake = monotonic.saturating_duration_since(last.monotonic);
        SUSPEND_MIN <= steady.since(last.steady).saturating_sub(awake)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(UnixMs::parse(text).map(|moment| moment.0), expected, "text: {text:?}");
    }

    #[test]
    fn timestamps_are_read_to_the_millisecond() {
        check("1970-01-01T00:00:00Z", Some(0));
        check("2026-03-01T10:00:00.120Z", Some(1_772_359_200_120));
        check("2024-02-29T23:59:59.9Z", Some(1_709_251_199_900));
        check("2026-03-01T10:00:00.120999Z", Some(1_772_359_200_120));
    }

    #[test]
    fn text_that_is_not_a_utc_timestamp_is_rejected() {
        for text in [
            "",
            "2026-03-01",
            "2026-03-01T10:00:00",
            "2026-03-01T10:00:00+01:00",
            "2026-03-01T10:00:00.Z",
            "2026-02-29T10:00:00Z",
            "2026-13-01T10:00:00Z",
            "2026-03-01T24:00:00Z",
            "2026-03-01t10:00:00Zé",
            "2026-03-01T10:00:00.12:Z",
            "2026-03-01T10:00:00.120z",
            "2026-03-01T10:00:00:120Z",
            "2026-03-0 T10:00:00.120Z",
            "2026-03-01T10:00:00.12éZ",
            "2026-00-01T10:00:00.120Z",
            "2026-01-00T10:00:00.120Z",
            "2026-01-01T10:60:00.120Z",
            "2026-01-01T10:00:61.120Z",
            "/026-01-01T10:00:00.120Z",
            ":026-01-01T10:00:00.120Z",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn a_time_has_the_offset_of_its_zone() {
        let shown = |text: &str, offset_s: i32| {
            let time = OffsetTime { at: UnixMs::parse(text).unwrap(), offset_s };
            (time.to_string(), time.to_the_second())
        };
        let (long, short) = shown("2026-07-01T22:30:00.120Z", 7_200);
        assert_eq!(
            (&*long, &*short),
            ("2026-07-02T00:30:00.120+02:00", "2026-07-02 00:30:00 +02:00")
        );
        let (long, short) = shown("2026-03-01T02:00:00.999Z", -12_600);
        assert_eq!(
            (&*long, &*short),
            ("2026-02-28T22:30:00.999-03:30", "2026-02-28 22:30:00 -03:30")
        );
        assert_eq!(shown("2026-03-01T10:00:00Z", 0).1, "2026-03-01 10:00:00 +00:00");
        let day = |offset_s| OffsetTime { at: UnixMs(MS_PER_DAY - 1), offset_s }.day();
        assert_eq!([day(0), day(1), day(-86_400)], [0, 1, -1]);
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(ms in 0_i64..253_402_300_799_999) {
            prop_assert_eq!(UnixMs::parse(&UnixMs(ms).to_string()), Some(UnixMs(ms)));
        }

        /// A timestamp with one replaced character is either rejected or equal to its own
        /// formatting.
        #[test]
        fn a_timestamp_with_a_wrong_character_is_rejected(
            ms in 0_i64..253_402_300_799_999, at in 0_usize..24, byte in 0_u8..128,
        ) {
            let mut bytes = UnixMs(ms).to_string().into_bytes();
            bytes[at] = byte;
            let text = String::from_utf8(bytes).unwrap();
            if let Some(moment) = UnixMs::parse(&text) {
                prop_assert!(moment.to_string() == text || text.contains(":60."));
            }
        }

        #[test]
        fn parsing_never_panics(text in "\\PC{0,40}") {
            if let Some(moment) = UnixMs::parse(&text) {
                prop_assert!(moment.0.abs() < 300_000_000_000_000);
            }
        }
    }

    #[test]
    fn only_a_difference_between_the_clocks_is_a_suspend() {
        let (start, seconds) = (Instant::now(), Duration::from_secs);
        let check = |steady: u64, monotonic: u64| {
            let mut detector = SuspendDetector::new(start, UnixMs(0));
            detector.check(start + seconds(monotonic), UnixMs(0).plus(seconds(steady)))
        };
        assert!(check(3_600, 1));
        assert!(check(6, 1));
        assert!(!check(3_600, 3_600));
        assert!(!check(5, 1));
        assert!(!check(0, 60));
    }

    #[test]
    fn a_suspend_is_detected_once() {
        let start = Instant::now();
        let mut detector = SuspendDetector::new(start, UnixMs(0));
        let resumed = UnixMs(0).plus(Duration::from_secs(60));
        assert!(detector.check(start, resumed));
        assert!(!detector.check(start, resumed));
    }
}
