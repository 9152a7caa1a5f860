//! Dates, made from the clock's milliseconds: the one place where a calendar is computed. UTC only.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const DAY_MS: u64 = 86_400_000;

/// Milliseconds since 1970; 0 on a machine whose clock is before that.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// A moment, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Civil {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
    millisecond: u64,
}

fn civil(ms: u64) -> Civil {
    // Days are counted from 0000-03-01, so that a leap day is the last of its year: 146,097 days are 400 years.
    let days = ms / DAY_MS + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months from March: 153 days in every five of them.
    let march_month = (5 * day_of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let in_day = ms % DAY_MS;
    Civil {
        year: era * 400 + year_of_era + u64::from(month <= 2),
        month,
        day: day_of_year - (153 * march_month + 2) / 5 + 1,
        hour: in_day / 3_600_000,
        minute: in_day / 60_000 % 60,
        second: in_day / 1_000 % 60,
        millisecond: in_day % 1_000,
    }
}

/// The day of a moment: year, month from 1, day of the month from 1.
pub fn date(ms: u64) -> (u64, u64, u64) {
    let Civil { year, month, day, .. } = civil(ms);
    (year, month, day)
}

/// The beginning of a day, from 1970 on. A day behind its month's end is one of the next.
pub fn of_date(year: u64, month: u64, day: u64) -> Option<u64> {
    days_since_1970(year, month, day).map(|days| days * DAY_MS)
}

/// `2025-01-31T12:00:00.000+0000`, as AWS Lambda writes dates.
pub fn lambda(ms: u64) -> String {
    let Civil { year, month, day, hour, minute, second, millisecond } = civil(ms);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}+0000")
}

/// `2025-01-31T12:00:00.000Z`, for people and for our own API.
pub fn rfc3339(ms: u64) -> String {
    let Civil { year, month, day, hour, minute, second, millisecond } = civil(ms);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

/// `20250131T120000Z`, as signatures have it.
pub fn compact(ms: u64) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = civil(ms);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Reads what [`compact`] writes.
pub fn parse_compact(text: &str) -> Option<u64> {
    let part = |from: usize, to: usize| text.get(from..to);
    if text.len() != 16 || part(8, 9)? != "T" {
        return None;
    }
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(9, 11)?, part(11, 13)?, part(13, 16)?);
    parse(&format!("{year}-{month}-{day}T{hour}:{minute}:{second}"))
}

/// `31/Jan/2025:12:00:00 +0000`, as web servers' logs and function URL events write it.
pub fn web_log(ms: u64) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = civil(ms);
    let month = MONTHS[month as usize - 1];
    format!("{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000")
}

/// `2025/01/31`, the beginning of a log stream's name.
pub fn day_path(ms: u64) -> String {
    let Civil { year, month, day, .. } = civil(ms);
    format!("{year:04}/{month:02}/{day:02}")
}

/// Reads what [`rfc3339`] and [`lambda`] write, with or without milliseconds; the zone must be UTC.
pub fn parse(text: &str) -> Option<u64> {
    let (moment, fraction) = match text.strip_suffix('Z').or_else(|| text.strip_suffix("+0000"))?.split_once('.') {
        Some((moment, fraction)) => (moment, fraction),
        None => (text.strip_suffix('Z').or_else(|| text.strip_suffix("+0000"))?, "0"),
    };
    let (date, time) = moment.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let valid = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !valid || hour > 23 || minute > 59 || second > 60 || fraction.len() > 9 {
        return None;
    }
    let millis: u64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
    Some(days_since_1970(year, month, day)? * DAY_MS + (hour * 3600 + minute * 60 + second) * 1000 + millis)
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let mut parts = text.split(separator).map(|part| part.parse().ok());
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year - 1 } else { year };
    let march_month = (month + 9) % 12;
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    let (era, year_of_era) = (year / 400, year % 400);
    (era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments() {
        assert_eq!(lambda(0), "1970-01-01T00:00:00.000+0000");
        assert_eq!(rfc3339(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(rfc3339(1_735_689_599_999), "2024-12-31T23:59:59.999Z");
        assert_eq!(web_log(1_738_324_800_000), "31/Jan/2025:12:00:00 +0000");
        assert_eq!(day_path(1_738_324_800_000), "2025/01/31");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for ms in (0..200).map(|step| step * 20_217_431_117 + step) {
            assert_eq!(parse(&rfc3339(ms)), Some(ms));
            assert_eq!(parse(&lambda(ms)), Some(ms));
            assert_eq!(parse_compact(&compact(ms)), Some(ms / 1000 * 1000));
        }
        assert_eq!(parse("2025-01-31T12:00:00Z"), Some(1_738_324_800_000));
        assert_eq!((date(1_738_324_800_000), of_date(2025, 1, 31)), ((2025, 1, 31), Some(1_738_281_600_000)));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in ["", "Z", "2025-01-31", "2025-13-01T00:00:00Z", "2025-01-31T12:00:00+0100", "1969-12-31T00:00:00Z"]
        {
            assert_eq!((parse(text), parse_compact(text)), (None, None), "{text}");
        }
    }
}
