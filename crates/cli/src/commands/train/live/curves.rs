//! Curves with a limited number of points.

/// Largest number of points.
const POINTS: usize = 600;

/// A curve whose points are means over more and more samples as it grows.
#[derive(Clone, Debug)]
pub struct Curve {
    points: Vec<(f64, f64)>,
    /// Calls of `push` for each point.
    stride: u64,
    /// The sum of weighted values, the weights, and the calls since the last point.
    pending: (f64, f64, u64),
}

impl Default for Curve {
    fn default() -> Self {
        Curve { points: Vec::new(), stride: 1, pending: (0.0, 0.0, 0) }
    }
}

impl Curve {
    /// Adds the mean `y` of `weight` samples that end at `x`.
    pub fn push(&mut self, x: f64, y: f64, weight: u64) {
        let (sum, weights, calls) = &mut self.pending;
        *sum += y * weight as f64;
        *weights += weight as f64;
        *calls += 1;
        if *calls < self.stride {
            return;
        }
        self.points.push((x, *sum / *weights));
        self.pending = (0.0, 0.0, 0);
        if self.points.len() > POINTS {
            self.points = self.points.chunks(2).map(mean).collect();
            self.stride *= 2;
        }
    }

    /// The points, from the left.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.points
    }
}

/// The end of two neighbors, at their mean.
fn mean(points: &[(f64, f64)]) -> (f64, f64) {
    let sum: f64 = points.iter().map(|(_, y)| y).sum();
    (points[points.len() - 1].0, sum / points.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_curve_has_few_points_with_the_same_mean() {
        let mut curve = Curve::default();
        for i in 0..10_000 {
            curve.push(f64::from(i), f64::from(i % 2), 3);
        }
        let points = curve.points();
        assert!((POINTS / 2..=POINTS).contains(&points.len()), "{}", points.len());
        assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(points.iter().all(|(_, y)| (y - 0.5).abs() < 0.1), "{points:?}");
        assert!(points[points.len() - 1].0 > 9_900.0);
    }
}
