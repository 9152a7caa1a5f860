//! Which days of a month a field of an expression means, as bits.

use api::time;

const DAY_MS: u64 = 86_400_000;

/// The field of days of the month.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DayOfMonth {
    Of(u64),
    Last,
    LastWeekday,
    /// The Monday to Friday of the same month that is nearest to this day.
    NearestWeekday(u32),
}

/// The field of weekdays: 1 is Sunday.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DayOfWeek {
    Of(u64),
    Last(u32),
    Nth(u32, u32),
}

/// Days of a month.
pub fn length(year: u64, month: u64) -> u64 {
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    let begin = |year, month| time::of_date(year, month, 1).unwrap_or_default();
    (begin(next_year, next_month) - begin(year, month)) / DAY_MS
}

/// The weekday of a day: 1 is Sunday.
fn weekday(year: u64, month: u64, day: u64) -> u64 {
    // 1970 began on a Thursday.
    (time::of_date(year, month, day).unwrap_or_default() / DAY_MS + 4) % 7 + 1
}

fn is_working(weekday: u64) -> bool {
    (2..=6).contains(&weekday)
}

impl DayOfMonth {
    pub fn days(&self, year: u64, month: u64) -> u64 {
        let length = length(year, month);
        let is_working = |day: u64| is_working(weekday(year, month, day));
        match *self {
            Self::Of(days) => days,
            Self::Last => 1 << length,
            Self::LastWeekday => (1..=length).rev().find(|day| is_working(*day)).map_or(0, |day| 1 << day),
            Self::NearestWeekday(day) if u64::from(day) > length => 0,
            Self::NearestWeekday(day) => {
                let day = u64::from(day);
                // Two days away at most, and never in another month.
                let near = [day, day.saturating_sub(1), day + 1, day.saturating_sub(2), day + 2];
                let found = near.into_iter().find(|near| (1..=length).contains(near) && is_working(*near));
                found.map_or(0, |day| 1 << day)
            }
        }
    }
}

impl DayOfWeek {
    pub fn days(&self, year: u64, month: u64) -> u64 {
        let length = length(year, month);
        let all = |wanted: u64| (1..=length).filter(move |day| weekday(year, month, *day) == wanted);
        match *self {
            Self::Of(weekdays) => {
                let is_meant = |day: &u64| weekdays & 1 << weekday(year, month, *day) != 0;
                (1..=length).filter(is_meant).fold(0, |days, day| days | 1 << day)
            }
            Self::Last(wanted) => all(wanted.into()).next_back().map_or(0, |day| 1 << day),
            Self::Nth(wanted, nth) => all(wanted.into()).nth(nth as usize - 1).map_or(0, |day| 1 << day),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_and_weekdays() {
        assert_eq!([length(2024, 2), length(2025, 2), length(2025, 12), length(2100, 2)], [29, 28, 31, 28]);
        assert_eq!((weekday(1970, 1, 1), weekday(2025, 1, 31), weekday(2025, 2, 2)), (5, 6, 1));
    }
}
