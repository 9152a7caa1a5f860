//! Where a value stands on a line, and which values are marked on it.

/// Above this ratio between the largest and the smallest value the small ones could not be told apart on a straight scale.
const LOGARITHMIC_FROM: f64 = 15.0;
const TICKS: f64 = 6.0;

/// A scale from `left` to `right`.
pub struct Axis {
    left: f64,
    right: f64,
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Axis {
    /// A scale that holds all `values`: from zero, or logarithmic where they are far apart.
    pub fn over(values: impl Iterator<Item = f64>, left: f64, right: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for value in values.filter(|value| *value > 0.0) {
            (low, high) = (low.min(value), high.max(value));
        }
        if high > low * LOGARITHMIC_FROM {
            return Self { left, right, low: low / 1.3, high: high * 1.15, logarithmic: true };
        }
        Self::from_zero(high, left, right)
    }

    /// A straight scale from zero to a little beyond `high`.
    pub fn from_zero(high: f64, left: f64, right: f64) -> Self {
        let high = if high > 0.0 { high * 1.05 } else { 1.0 };
        Self { left, right, low: 0.0, high, logarithmic: false }
    }

    pub fn is_logarithmic(&self) -> bool {
        self.logarithmic
    }

    pub fn place(&self, value: f64) -> f64 {
        let share = if self.logarithmic {
            (value.max(self.low) / self.low).ln() / (self.high / self.low).ln()
        } else {
            value / self.high
        };
        self.left + share * (self.right - self.left)
    }

    /// Round values and their places.
    pub fn ticks(&self) -> Vec<(f64, f64)> {
        let values = if self.logarithmic { self.logarithmic_values() } else { self.straight_values() };
        values.into_iter().map(|value| (value, self.place(value))).collect()
    }

    fn straight_values(&self) -> Vec<f64> {
        let rough = self.high / TICKS;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let factors = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude);
        let step = factors.into_iter().find(|step| *step >= rough).unwrap_or(rough);
        (0..).map(|number| f64::from(number) * step).take_while(|value| *value <= self.high).collect()
    }

    fn logarithmic_values(&self) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let factors: &[f64] = if last - first <= 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let all = (first..=last).flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)));
        all.filter(|value| (self.low..=self.high).contains(value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(axis: &Axis) -> Vec<f64> {
        axis.ticks().into_iter().map(|(value, _)| value).collect()
    }

    #[test]
    fn near_values_get_a_straight_scale_from_zero() {
        let axis = Axis::over([40.0, 95.0].into_iter(), 0.0, 100.0);
        assert!(!axis.is_logarithmic());
        assert_eq!(values(&axis), [0.0, 20.0, 40.0, 60.0, 80.0]);
        assert_eq!(axis.place(0.0), 0.0);
        assert!(axis.place(95.0) < 100.0);
    }

    #[test]
    fn far_values_get_a_logarithmic_one() {
        let axis = Axis::over([0.05, 0.3, 60.0].into_iter(), 100.0, 700.0);
        assert!(axis.is_logarithmic());
        assert_eq!(values(&axis), [0.1, 1.0, 10.0]);
        let step = axis.place(10.0) - axis.place(1.0);
        assert!((axis.place(1.0) - axis.place(0.1) - step).abs() < 1e-6);
        assert!(axis.place(0.05) > 100.0 && axis.place(60.0) < 700.0);
    }

    #[test]
    fn nothing_is_no_trouble() {
        assert!(!Axis::over([].into_iter(), 0.0, 1.0).ticks().is_empty());
        assert!(!Axis::over([0.0].into_iter(), 0.0, 1.0).ticks().is_empty());
    }
}
