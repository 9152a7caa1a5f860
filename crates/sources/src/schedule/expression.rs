//! When a rule fires: `rate(5 minutes)`, `cron(0 12 ? * MON-FRI *)`. In UTC, to the minute.
//!
//! ```text
//! cron(minutes hours day-of-month month day-of-week year)
//!      0-59    0-23  1-31 ? L W   1-12  1-7 ? L #   1970-2199        , - * / everywhere
//! ```
//! One of the two days is `?`. Weekdays are 1 to 7 from Sunday, or their names; months have names, too.

use super::month::{self, DayOfMonth, DayOfWeek};
use api::time;
use thiserror::Error;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const YEARS: (u32, u32) = (1970, 2199);
const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// A text is no expression.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("Parameter ScheduleExpression is not valid.")]
pub struct InvalidExpression;

/// When.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Every so many milliseconds from the rule's making on.
    Rate(u64),
    Cron(Box<Cron>),
}

/// Fields as sets; those of minutes, hours and months as bits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    months: u64,
    years: Vec<u32>,
    day: Day,
}

/// Which of the two fields of days counts.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Day {
    OfMonth(DayOfMonth),
    OfWeek(DayOfWeek),
}

impl Expression {
    pub fn parse(text: &str) -> Result<Self, InvalidExpression> {
        let inside = |word: &str| text.strip_prefix(word)?.strip_prefix('(')?.strip_suffix(')');
        match (inside("rate"), inside("cron")) {
            (Some(rate), _) => parse_rate(rate),
            (_, Some(cron)) => Ok(Self::Cron(Box::new(parse_cron(cron)?))),
            _ => Err(InvalidExpression),
        }
    }

    /// The first moment after `after`; nothing where there is none any more. A rate counts from `begun`.
    pub fn next(&self, begun: u64, after: u64) -> Option<u64> {
        match self {
            Self::Rate(every) => {
                let passed = after.saturating_sub(begun) / every;
                Some(begun + (passed + 1) * every)
            }
            Self::Cron(cron) => cron.next(after),
        }
    }
}

fn parse_rate(text: &str) -> Result<Expression, InvalidExpression> {
    let (number, unit) = text.split_once(' ').ok_or(InvalidExpression)?;
    let number: u64 = number.parse().ok().filter(|number| (1..=1_000_000).contains(number)).ok_or(InvalidExpression)?;
    let minutes = match (unit, number) {
        ("minute", 1) | ("minutes", 2..) => 1,
        ("hour", 1) | ("hours", 2..) => 60,
        ("day", 1) | ("days", 2..) => 24 * 60,
        _ => return Err(InvalidExpression),
    };
    Ok(Expression::Rate(number * minutes * MINUTE_MS))
}

fn parse_cron(text: &str) -> Result<Cron, InvalidExpression> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let [minutes, hours, of_month, months, of_week, years] = fields[..] else { return Err(InvalidExpression) };
    let day = match (of_month, of_week) {
        ("?", "?") => return Err(InvalidExpression),
        (of_month, "?") => Day::OfMonth(day_of_month(of_month)?),
        ("?", of_week) => Day::OfWeek(day_of_week(of_week)?),
        _ => return Err(InvalidExpression),
    };
    Ok(Cron {
        minutes: bits(&numbers(minutes, (0, 59), &[])?),
        hours: bits(&numbers(hours, (0, 23), &[])?),
        months: bits(&numbers(months, (1, 12), &MONTHS)?),
        years: numbers(years, YEARS, &[])?,
        day,
    })
}

fn day_of_month(text: &str) -> Result<DayOfMonth, InvalidExpression> {
    match text {
        "L" => Ok(DayOfMonth::Last),
        "LW" => Ok(DayOfMonth::LastWeekday),
        _ => match text.strip_suffix('W') {
            Some(day) => Ok(DayOfMonth::NearestWeekday(number(day, (1, 31), &[])?)),
            None => Ok(DayOfMonth::Of(bits(&numbers(text, (1, 31), &[])?))),
        },
    }
}

fn day_of_week(text: &str) -> Result<DayOfWeek, InvalidExpression> {
    let days = (1, 7);
    if let Some((day, nth)) = text.split_once('#') {
        return Ok(DayOfWeek::Nth(number(day, days, &WEEKDAYS)?, number(nth, (1, 5), &[])?));
    }
    match text.strip_suffix('L') {
        Some("") => Ok(DayOfWeek::Of(bits(&[7]))),
        Some(day) => Ok(DayOfWeek::Last(number(day, days, &WEEKDAYS)?)),
        None => Ok(DayOfWeek::Of(bits(&numbers(text, days, &WEEKDAYS)?))),
    }
}

/// A list of numbers, ranges and steps, in order.
fn numbers(text: &str, (least, most): (u32, u32), names: &[&str]) -> Result<Vec<u32>, InvalidExpression> {
    let mut found = Vec::new();
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(number(step, (1, most.max(1)), &[])?)),
            None => (part, None),
        };
        let (first, last) = match range.split_once('-') {
            _ if range == "*" => (least, most),
            Some((first, last)) => (number(first, (least, most), names)?, number(last, (least, most), names)?),
            None => {
                let one = number(range, (least, most), names)?;
                // A step from a number on goes to the end.
                (one, if step.is_some() { most } else { one })
            }
        };
        let step = step.unwrap_or(1) as usize;
        if first <= last {
            found.extend((first..=last).step_by(step));
        } else {
            // Over the end: FRI-MON, 22-2.
            found.extend((first..=most).chain(least..=last).step_by(step));
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn number(text: &str, (least, most): (u32, u32), names: &[&str]) -> Result<u32, InvalidExpression> {
    let named = names.iter().position(|name| name.eq_ignore_ascii_case(text)).map(|at| at as u32 + 1);
    let digits = || text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    named.or_else(digits).filter(|number| (least..=most).contains(number)).ok_or(InvalidExpression)
}

fn bits(numbers: &[u32]) -> u64 {
    numbers.iter().fold(0, |bits, number| bits | 1 << number)
}

/// The first number of a set from `from` on.
fn first_from(set: u64, from: u64) -> Option<u64> {
    let left = set.checked_shr(u32::try_from(from).ok()?).unwrap_or(0);
    (left != 0).then(|| from + u64::from(left.trailing_zeros()))
}

impl Cron {
    fn next(&self, after: u64) -> Option<u64> {
        // Whole minutes only; the one that has begun is over.
        let from = (after / MINUTE_MS + 1) * MINUTE_MS;
        let (first_year, first_month, first_day) = time::date(from);
        let midnight = time::of_date(first_year, first_month, first_day)?;
        for year in self.years.iter().map(|year| u64::from(*year)).filter(|year| *year >= first_year) {
            for month in (1..=12).filter(|month| self.months & 1 << month != 0) {
                if (year, month) < (first_year, first_month) {
                    continue;
                }
                let begin = time::of_date(year, month, 1)?;
                let days = match &self.day {
                    Day::OfMonth(day) => day.days(year, month),
                    Day::OfWeek(day) => day.days(year, month),
                };
                for day in (1..=month::length(year, month)).filter(|day| days & 1 << day != 0) {
                    let day_begin = begin + (day - 1) * 24 * HOUR_MS;
                    let found = match day_begin {
                        past if past < midnight => None,
                        today if today == midnight => self.within_day(from - midnight).map(|at| today + at),
                        later => self.within_day(0).map(|at| later + at),
                    };
                    if found.is_some() {
                        return found;
                    }
                }
            }
        }
        None
    }

    /// The first moment of a day from a moment of it on.
    fn within_day(&self, from: u64) -> Option<u64> {
        let (hour, minute) = (from / HOUR_MS, from % HOUR_MS / MINUTE_MS);
        if let Some(hour) = first_from(self.hours, hour).filter(|first| *first == hour)
            && let Some(minute) = first_from(self.minutes, minute)
        {
            return Some(hour * HOUR_MS + minute * MINUTE_MS);
        }
        let hour = first_from(self.hours, hour + 1)?;
        Some(hour * HOUR_MS + first_from(self.minutes, 0)? * MINUTE_MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(text: &str, after: &str, count: usize) -> Vec<String> {
        let expression = Expression::parse(text).unwrap();
        let mut at = time::parse(after).unwrap();
        let next = || {
            at = expression.next(0, at)?;
            Some(time::rfc3339(at).replace(":00.000Z", ""))
        };
        std::iter::from_fn(next).take(count).collect()
    }

    #[test]
    fn awss_examples() {
        for (text, expected) in [
            ("cron(0 10 * * ? *)", ["2025-01-31T10:00", "2025-02-01T10:00"]),
            ("cron(15 12 * * ? *)", ["2025-01-30T12:15", "2025-01-31T12:15"]),
            ("cron(0 18 ? * MON-FRI *)", ["2025-01-30T18:00", "2025-01-31T18:00"]),
            ("cron(0 8 1 * ? *)", ["2025-02-01T08:00", "2025-03-01T08:00"]),
            ("cron(0/15 * * * ? *)", ["2025-01-30T12:15", "2025-01-30T12:30"]),
            ("cron(0/10 * ? * MON-FRI *)", ["2025-01-30T12:10", "2025-01-30T12:20"]),
            ("cron(0/5 8-17 ? * MON-FRI *)", ["2025-01-30T12:05", "2025-01-30T12:10"]),
            ("cron(0 9 ? * 2#1 *)", ["2025-02-03T09:00", "2025-03-03T09:00"]),
            ("cron(0 9 L * ? *)", ["2025-01-31T09:00", "2025-02-28T09:00"]),
            ("cron(0 9 ? * 6L *)", ["2025-01-31T09:00", "2025-02-28T09:00"]),
            ("cron(0 9 15W * ? *)", ["2025-02-14T09:00", "2025-03-14T09:00"]),
            ("cron(0 9 1W * ? *)", ["2025-02-03T09:00", "2025-03-03T09:00"]),
            ("cron(0 9 LW * ? *)", ["2025-01-31T09:00", "2025-02-28T09:00"]),
            ("cron(0 0 29 2 ? *)", ["2028-02-29T00:00", "2032-02-29T00:00"]),
            ("cron(30 22-1 ? JAN,jul FRI-SUN 2025-2026)", ["2025-01-31T00:30", "2025-01-31T01:30"]),
            ("cron(0 0 31 * ? *)", ["2025-01-31T00:00", "2025-03-31T00:00"]),
        ] {
            assert_eq!(moments(text, "2025-01-30T12:00:30Z", 2), expected, "{text}");
        }
        assert_eq!(moments("cron(0 0 30 2 ? *)", "2025-01-30T12:00:00Z", 1), [""; 0]);
        assert_eq!(moments("cron(0 0 1 1 ? 2024)", "2025-01-30T12:00:00Z", 1), [""; 0]);
        assert_eq!(moments("cron(* * * * ? *)", "2199-12-31T23:58:00Z", 3), ["2199-12-31T23:59"]);
    }

    #[test]
    fn rates_count_from_their_beginning() {
        let rate = Expression::parse("rate(5 minutes)").unwrap();
        assert_eq!((rate.next(1_000, 1_000), rate.next(1_000, 300_999)), (Some(301_000), Some(301_000)));
        assert_eq!(rate.next(1_000, 301_000), Some(601_000));
        assert_eq!(Expression::parse("rate(1 day)"), Ok(Expression::Rate(86_400_000)));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for wrong in [
            "",
            "rate",
            "rate()",
            "rate(0 minutes)",
            "rate(1 minutes)",
            "rate(2 minute)",
            "rate(1 week)",
            "rate(1.5 hours)",
            "rate(-1 days)",
            "cron()",
            "cron(* * * * *)",
            "cron(* * * * * *)",
            "cron(* * ? * ? *)",
            "cron(60 * * * ? *)",
            "cron(* 24 * * ? *)",
            "cron(* * 0 * ? *)",
            "cron(* * * 13 ? *)",
            "cron(* * ? * 8 *)",
            "cron(* * ? * MON#6 *)",
            "cron(* * * * ? 1969)",
            "cron(0/0 * * * ? *)",
            "cron(, * * * ? *)",
            "cron(+1 * * * ? *)",
            "cron(1- * * * ? *)",
            "at(2025-01-01T00:00:00)",
            "cron(* * * * ? *",
        ] {
            assert_eq!(Expression::parse(wrong), Err(InvalidExpression), "{wrong}");
        }
    }
}
