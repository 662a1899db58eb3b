//! Times as the log writes them: RFC 3339, UTC, nanoseconds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

const SECONDS_A_DAY: u64 = 86_400;

/// Formats a time.
pub fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / SECONDS_A_DAY, since.as_secs() % SECONDS_A_DAY);
    let (year, month, day) = civil(days);
    let nanos = since.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{nanos:09}Z", second / 3600, second / 60 % 60, second % 60)
}

/// A compact form that sorts, for names of sessions.
pub fn compact(time: SystemTime) -> String {
    let text = rfc3339(time);
    text.bytes().take(19).filter(u8::is_ascii_alphanumeric).map(char::from).collect()
}

/// Days since 1970 as year, month, day (the proleptic Gregorian calendar; years begin in March here, so that leap days come last).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year_of_era + carry, month, day)
}

/// Turns the kernel's `CLOCK_BOOTTIME` into wall-clock time. The offset is measured anew each time, so that a clock that was set
/// in between shows in the log as it did on the machine.
pub fn from_boot_ns(boot_ns: u64) -> SystemTime {
    let now = SystemTime::now();
    let Ok(boot) = clock_gettime(ClockId::CLOCK_BOOTTIME) else { return now };
    let age = Duration::from(boot).saturating_sub(Duration::from_nanos(boot_ns));
    now.checked_sub(age).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, nanos: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    #[test]
    fn known_times_are_formatted() {
        for (seconds, nanos, expected) in [
            (0, 0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, 5, "2000-02-29T00:00:00.000000005Z"),
            (1_709_210_096, 123_456_789, "2024-02-29T12:34:56.123456789Z"),
            (4_102_444_799, 0, "2099-12-31T23:59:59.000000000Z"),
        ] {
            assert_eq!(rfc3339(at(seconds, nanos)), expected);
        }
        assert_eq!(compact(at(1_709_210_096, 0)), "20240229T123456");
    }

    #[test]
    fn boot_time_now_is_now() {
        let boot = clock_gettime(ClockId::CLOCK_BOOTTIME).unwrap();
        let converted = from_boot_ns(u64::try_from(Duration::from(boot).as_nanos()).unwrap());
        assert!(SystemTime::now().duration_since(converted).unwrap_or_default() < Duration::from_secs(1));
    }
}
