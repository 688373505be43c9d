//! What the amounts of sites were estimated from, as columns that follow those of the amounts: there
//! only where any amount is an estimate.

use super::{
    CapturedSite,
    codec::{Fields, Malformed, put as put_number},
};
use crate::model::{
    estimate::Spread,
    site::{Amount, SiteStats},
};

/// A column of samples, one of their bytes, one of everything else.
const COLUMNS: usize = 3;

/// The numbers of a row in the last column, of eight bytes each.
const NUMBERS: usize = 6;

/// Whether any amount is an estimate.
pub fn are_in(sites: &[CapturedSite]) -> bool {
    sites.iter().flat_map(|site| amounts(&site.stats)).any(|amount| !amount.is_exact())
}

/// The columns; none where no amount is an estimate.
pub fn put(sites: &[CapturedSite]) -> Vec<Vec<u8>> {
    if !are_in(sites) {
        return Vec::new();
    }
    let [mut samples, mut bytes, mut numbers] = <[Vec<u8>; COLUMNS]>::default();
    for amount in sites.iter().flat_map(|site| amounts(&site.stats)) {
        put_number(&mut samples, amount.spread.samples);
        put_number(&mut bytes, amount.spread.sampled_bytes);
        for value in values(amount.spread) {
            numbers.extend_from_slice(&value.to_le_bytes());
        }
    }
    vec![samples, bytes, numbers]
}

fn amounts(stats: &SiteStats) -> [Amount; 4] {
    let SiteStats { live, allocated, freed, peak } = *stats;
    [live, allocated, freed, peak]
}

fn values(spread: Spread) -> [f64; NUMBERS] {
    [
        spread.unseen_bytes,
        spread.unseen_count,
        spread.bytes_variance,
        spread.count_variance,
        spread.square_bytes,
        spread.unit_bytes,
    ]
}

/// The columns of a block, from which rows are taken.
pub struct Estimates<'a>(Option<[Fields<'a>; COLUMNS]>);

impl<'a> Estimates<'a> {
    /// The columns that follow, if any do.
    ///
    /// # Errors
    /// When they end too early.
    pub fn read(fields: &mut Fields<'a>) -> Result<Self, Malformed> {
        match fields.0.is_empty() {
            true => Ok(Self(None)),
            false => fields.columns().map(Some).map(Self),
        }
    }

    /// Completes the amounts of the next site.
    ///
    /// # Errors
    /// When there are no more rows.
    pub fn take(&mut self, stats: &mut SiteStats) -> Result<(), Malformed> {
        let Some(columns) = &mut self.0 else { return Ok(()) };
        let SiteStats { live, allocated, freed, peak } = stats;
        for amount in [live, allocated, freed, peak] {
            amount.spread = spread(columns)?;
        }
        Ok(())
    }
}

fn spread([samples, bytes, numbers]: &mut [Fields<'_>; COLUMNS]) -> Result<Spread, Malformed> {
    let (samples, sampled_bytes) = (samples.number()?, bytes.number()?);
    let mut next = || numbers.word().map(f64::from_bits);
    Ok(Spread {
        samples,
        sampled_bytes,
        unseen_bytes: next()?,
        unseen_count: next()?,
        bytes_variance: next()?,
        count_variance: next()?,
        square_bytes: next()?,
        unit_bytes: next()?,
        ..Spread::NONE
    }
    .cleaned())
}
