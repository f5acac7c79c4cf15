//! Quantiles.

/// The smallest sample that at least this share of them does not exceed; NaN without samples.
pub(crate) fn quantile(samples: &mut [f64], share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    if share == 0.5 && !samples.is_empty() && samples.len().is_multiple_of(2) {
        let half = samples.len() / 2;
        return (samples[half - 1] + samples[half]) / 2.0;
    }
    let rank = (samples.len() as f64 * share).ceil() as usize;
    samples.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles() {
        let mut samples: Vec<f64> = (1..=20).rev().map(f64::from).collect();
        assert_eq!(quantile(&mut samples, 0.5), 10.5);
        assert_eq!(quantile(&mut samples, 0.95), 19.0);
        assert_eq!(quantile(&mut samples, 1.0), 20.0);
        assert_eq!(quantile(&mut [3.0, 1.0, 2.0], 0.5), 2.0);
        assert!(quantile(&mut [], 0.5).is_nan());
    }
}
