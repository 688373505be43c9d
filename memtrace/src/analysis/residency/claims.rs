//! Who says which addresses are theirs.

use crate::model::census::{Extent, RssKind};

/// Who accounts for the bytes of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A walker, which says what is on the pages.
    Walker,
    /// Nobody has to: they all are of this kind.
    Kind(RssKind),
}

/// A range with an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The range.
    pub extent: Extent,
    /// Whose it is.
    pub owner: Owner,
}

/// Claims in the order of addresses, none of which overlap.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    claims: Vec<Claim>,
}

impl Claims {
    /// Sorts claims; where two overlap, the one that was given first keeps the part.
    pub fn new(given: impl IntoIterator<Item = Claim>) -> Self {
        let mut claims = Self::default();
        for claim in given {
            claims.add(claim);
        }
        claims
    }

    /// Adds the parts of a claim that are not claimed yet.
    fn add(&mut self, claim: Claim) {
        let Extent { mut start, end } = claim.extent;
        let mut parts = Vec::new();
        for earlier in self.overlapping(start, end) {
            parts.push(Extent { start, end: earlier.extent.start });
            start = earlier.extent.end;
        }
        parts.push(Extent { start, end });
        for extent in parts.into_iter().filter(|part| part.start < part.end) {
            let at = self.claims.partition_point(|it| it.extent.start < extent.start);
            self.claims.insert(at, Claim { extent, owner: claim.owner });
        }
    }

    fn overlapping(&self, start: u64, end: u64) -> impl Iterator<Item = &Claim> {
        let first = self.claims.partition_point(|it| it.extent.end <= start);
        self.claims[first..].iter().take_while(move |it| it.extent.start < end)
    }

    /// The owners in a range, and how many bytes each claims of it.
    pub fn within(&self, start: u64, end: u64) -> impl Iterator<Item = (Owner, u64)> {
        self.overlapping(start, end).map(move |it| {
            let bytes = it.extent.end.min(end) - it.extent.start.max(start);
            (it.owner, bytes)
        })
    }
}
