//! What is said of a histogram of nanoseconds, in every table and summary.

use hdrhistogram::Histogram;
use serde::Serialize;

/// The quantiles of a histogram of nanoseconds. The names of the fields are part of every summary's interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// Values recorded.
    pub count: u64,
    /// The least.
    pub min: u64,
    /// The arithmetic mean.
    pub mean: f64,
    /// Half of the values are not above it.
    pub p50: u64,
    /// 90 % are not above it.
    pub p90: u64,
    /// 99 % are not above it.
    pub p99: u64,
    /// 99.9 % are not above it.
    pub p999: u64,
    /// The greatest.
    pub max: u64,
}

impl Quantiles {
    /// Those of `histogram`; `None` where nothing was recorded.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Option<Self> {
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            min: histogram.min(),
            mean: histogram.mean(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        })
    }
}
