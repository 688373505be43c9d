//! What a growth trace found, besides its sites.

use serde::Serialize;

use crate::{
    capture::{Capture, growth::GrowthView},
    model::{
        footprint::{GrowthProbes, RssChanges},
        site::Amount,
        size,
    },
};

/// 95 % of a normal distribution are within as many standard deviations.
const STANDARD_DEVIATIONS: f64 = 1.96;

/// What grew in the window and was not given back in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct GrowthReport {
    /// What `sites` and `groups` are of.
    pub view: GrowthView,
    /// How it was followed.
    #[serde(flatten)]
    pub probes: GrowthProbes,
    /// Address space that can be used, in ranges.
    pub address_space: Amount,
    /// Pages in use.
    pub resident: Estimate,
    /// As the kernel told it; `None` where the window's end was not seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rss: Option<RssChanges>,
}

/// A sum that was estimated from samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Estimate {
    /// The sum.
    pub bytes: u64,
    /// The truth is within as much of it in 95 of 100 windows, if there are more than a few samples.
    pub error_bytes: u64,
    /// How many there are.
    pub samples: u64,
}

impl Estimate {
    /// Of samples that stand for so much. As if each stood for equally much and came about by itself
    /// (a Poisson process): large pages, which are never missed, make it better than that.
    pub fn of(sum: Amount) -> Self {
        let relative = STANDARD_DEVIATIONS / (sum.count.max(1) as f64).sqrt();
        let error_bytes = (sum.bytes as f64 * relative) as u64;
        Self { bytes: sum.bytes, error_bytes, samples: sum.count }
    }
}

impl GrowthReport {
    /// `None` of a capture of allocations.
    pub(super) fn of(capture: &Capture, view: GrowthView) -> Option<Self> {
        let totals = &capture.ending.totals;
        Some(Self {
            view,
            probes: capture.header.growth?,
            address_space: totals.mappings.live,
            resident: Estimate::of(totals.heap.live),
            rss: capture.ending.rss_changes,
        })
    }

    /// What it comes to, as sentences.
    pub(super) fn sentences(&self) -> Vec<String> {
        let Estimate { bytes, error_bytes, samples } = self.resident;
        let address_space = size::bytes(self.address_space.bytes);
        let resident = match samples {
            0 => format!(
                "no new page was sampled (one for every {} in use is, on average)",
                size::bytes(self.probes.interval_bytes)
            ),
            _ => format!(
                "{} \u{b1} {} of new pages came into use and was not given back",
                size::bytes(bytes),
                size::bytes(error_bytes)
            ),
        };
        let mut sentences = vec![format!(
            "Address space grew by {address_space} that was not given back; {resident}."
        )];
        sentences.extend(self.peak());
        sentences
    }

    fn peak(&self) -> Option<String> {
        let rss = self.rss.filter(|rss| rss.updates > 0)?;
        let parts = rss.at_peak;
        Some(format!(
            "RSS was at its highest, {}, {} after the attach: {} anonymous, {} of files, {} shared.",
            size::bytes(rss.peak_bytes),
            size::duration_ns(rss.peak_at_ns),
            size::bytes(parts.anonymous_bytes),
            size::bytes(parts.file_bytes),
            size::bytes(parts.shmem_bytes),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_shrinks_with_the_root_of_the_samples() {
        let of = |count| Estimate::of(Amount { bytes: 100_000, count, ..Amount::default() });
        assert_eq!(of(100).error_bytes, 19_600);
        assert_eq!(of(10_000).error_bytes, 1_960);
        assert_eq!(Estimate::of(Amount::default()), Estimate::default());
    }

    #[test]
    fn what_was_not_seen_is_said() {
        let mut report = GrowthReport::default();
        report.probes.interval_bytes = 1 << 19;
        let [sentence] = &report.sentences()[..] else { panic!("{:?}", report.sentences()) };
        assert!(
            sentence.contains("no new page was sampled (one for every 512.0 KiB"),
            "{sentence}"
        );
        report.rss = Some(RssChanges { updates: 1, peak_bytes: 3 << 20, ..Default::default() });
        report.resident = Estimate::of(Amount { bytes: 1 << 20, count: 4, ..Amount::default() });
        let sentences = report.sentences();
        assert!(sentences[0].contains("1.0 MiB \u{b1} 1003.5 KiB"), "{sentences:?}");
        assert!(sentences[1].starts_with("RSS was at its highest, 3.0 MiB"), "{sentences:?}");
    }
}
