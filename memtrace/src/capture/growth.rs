//! The two books of a capture of growth: address space, and pages in use.

use serde::{Deserialize, Serialize};

use super::{Capture, matching::retain_sites};
use crate::model::AllocFn;

/// Which of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GrowthView {
    /// Address space that can be used, whether it is or not.
    #[default]
    AddressSpace,
    /// Pages in use: an estimate.
    Resident,
}

/// The capture with only the sites of one book. Sums are of both.
pub fn only(capture: &Capture, view: GrowthView) -> Capture {
    let is_page = |function: Option<AllocFn>| function == Some(AllocFn::PageFault);
    let kept: Vec<bool> = capture
        .sites
        .iter()
        .map(|site| is_page(site.function) == (view == GrowthView::Resident))
        .collect();
    retain_sites(capture, &kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{capture::CapturedSite, model::site::LiveItem};

    #[test]
    fn pages_and_ranges_are_kept_apart() {
        let functions = [AllocFn::Mmap, AllocFn::PageFault, AllocFn::Brk];
        let site = |function| CapturedSite { function: Some(function), ..Default::default() };
        let live = |site: u32| LiveItem { site, bytes: u64::from(site), ..Default::default() };
        let capture = Capture {
            sites: functions.map(site).into(),
            live: [0, 1, 2, 1].map(live).into(),
            ..Capture::default()
        };
        let live_of = |view| -> Vec<(u32, u64)> {
            only(&capture, view).live.iter().map(|item| (item.site, item.bytes)).collect()
        };
        assert_eq!(live_of(GrowthView::AddressSpace), [(0, 0), (1, 2)]);
        assert_eq!(live_of(GrowthView::Resident), [(0, 1), (0, 1)]);
    }
}
