//! Sites and live blocks as columns.

use memtrace_common::sample::Interval;

use super::{
    CapturedSite, LiveItem,
    codec::{Fields, Malformed, put, put_bytes, put_difference},
    estimates::{self, Estimates},
};
use crate::model::{
    AllocFn, ObjectNumber,
    site::{Amount, SiteStats},
    stack::StackId,
};

/// The most rows of a block: with numbers of the largest size it stays below the largest block.
pub const ROWS_A_BLOCK: usize = 1 << 15;

/// The same of sites with estimates, which are longer.
const ESTIMATES_A_BLOCK: usize = 1 << 13;

/// How many rows of these sites go into a block.
pub fn rows_a_block(sites: &[CapturedSite]) -> usize {
    if estimates::are_in(sites) { ESTIMATES_A_BLOCK } else { ROWS_A_BLOCK }
}

/// The payload of at most [`rows_a_block`] sites.
pub fn put_sites(sites: &[CapturedSite]) -> Vec<u8> {
    let (mut functions, mut has_stack, mut stacks) = (Vec::new(), Vec::new(), Vec::new());
    let mut amounts = <[Vec<u8>; 8]>::default();
    for site in sites {
        put(&mut functions, function_and_object(site));
        has_stack.push(site.stack.is_some().into());
        site.stack.iter().for_each(|stack| stacks.extend_from_slice(&stack.0.to_le_bytes()));
        for (column, value) in amounts.iter_mut().zip(values(&site.stats)) {
            put(column, value);
        }
    }
    let estimates = estimates::put(sites);
    let mut payload = Vec::new();
    for column in [functions, has_stack, stacks].iter().chain(&amounts).chain(&estimates) {
        put_bytes(&mut payload, column);
    }
    payload
}

/// Bits of a number that are the function, plus 1; the object is above.
const FUNCTION_BITS: u32 = 8;

fn function_and_object(site: &CapturedSite) -> u64 {
    let function = site.function.map_or(0, |function| function as u64 + 1);
    function | (site.object.position() as u64) << FUNCTION_BITS
}

fn values(stats: &SiteStats) -> [u64; 8] {
    let SiteStats { live, allocated, freed, peak } = stats;
    let [a, b, c, d] = [live, allocated, freed, peak].map(|amount| [amount.bytes, amount.count]);
    [a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1]]
}

/// Appends the sites of a block. A function that is not known is none.
///
/// # Errors
/// When it is none.
pub fn read_sites(payload: &[u8], out: &mut Vec<CapturedSite>) -> Result<(), Malformed> {
    let mut fields = Fields(payload);
    let [mut functions, has_stack, mut stacks] = fields.columns()?;
    let mut amounts = fields.columns::<8>()?;
    let mut estimates = Estimates::read(&mut fields)?;
    for has_stack in has_stack.0 {
        let number = functions.number()?;
        let function = (number as u8).checked_sub(1).and_then(AllocFn::from_u8);
        let object = ObjectNumber::of((number >> FUNCTION_BITS) as usize);
        let stack = if *has_stack == 0 { None } else { Some(StackId(stacks.word()?)) };
        let mut stats = stats(&mut amounts)?;
        estimates.take(&mut stats)?;
        out.push(CapturedSite { stack, function, object, stats, process: 0 });
    }
    Ok(())
}

fn stats(columns: &mut [Fields<'_>; 8]) -> Result<SiteStats, Malformed> {
    let mut amounts = [Amount::default(); 4];
    let (pairs, _) = columns.as_chunks_mut::<2>();
    for (amount, [bytes, count]) in amounts.iter_mut().zip(pairs) {
        *amount = Amount::new(bytes.number()?, count.number()?);
    }
    let [live, allocated, freed, peak] = amounts;
    Ok(SiteStats { live, allocated, freed, peak })
}

/// The payload of at most [`ROWS_A_BLOCK`] live records.
pub fn put_live(records: &[LiveItem]) -> Vec<u8> {
    let [mut addresses, mut bytes, mut times, mut sites] = <[Vec<u8>; 4]>::default();
    let (mut address, mut time_ns) = (0, 0);
    for record in records {
        put_difference(&mut addresses, &mut address, record.address);
        put(&mut bytes, record.bytes);
        put_difference(&mut times, &mut time_ns, record.time_ns);
        put(&mut sites, record.site.into());
    }
    let mut payload = Vec::new();
    for column in [addresses, bytes, times, sites] {
        put_bytes(&mut payload, &column);
    }
    if records.iter().any(|record| !record.interval.is_exact()) {
        let exponents: Vec<u8> = records.iter().map(|it| it.interval.exponent()).collect();
        put_bytes(&mut payload, &exponents);
    }
    payload
}

/// Appends the live records of a block.
///
/// # Errors
/// When it is none.
pub fn read_live(payload: &[u8], out: &mut Vec<LiveItem>) -> Result<(), Malformed> {
    let mut fields = Fields(payload);
    let [mut addresses, mut bytes, mut times, mut sites] = fields.columns()?;
    let mut intervals = if fields.0.is_empty() { None } else { Some(Fields(fields.bytes()?)) };
    let (mut address, mut time_ns) = (0, 0);
    while !addresses.0.is_empty() {
        out.push(LiveItem {
            address: addresses.difference(&mut address)?,
            bytes: bytes.number()?,
            time_ns: times.difference(&mut time_ns)?,
            site: sites.number_u32()?,
            interval: intervals.as_mut().map_or(Ok(Interval::EXACT), interval)?,
        });
    }
    Ok(())
}

fn interval(exponents: &mut Fields<'_>) -> Result<Interval, Malformed> {
    match exponents.byte()? {
        exponent if exponent <= Interval::MAX.exponent() => Ok(Interval::from_exponent(exponent)),
        _ => Err(Malformed::Code),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        capture::testing::{any_live, any_site},
        model::estimate::Spread,
    };

    proptest! {
        #[test]
        fn any_sites_come_back_as_they_were(
            sites in proptest::collection::vec(any_site(), 0..40),
        ) {
            let mut decoded = Vec::new();
            prop_assert_eq!(read_sites(&put_sites(&sites), &mut decoded), Ok(()));
            prop_assert_eq!(decoded, sites);
        }

        #[test]
        fn any_live_records_come_back_as_they_were(
            records in proptest::collection::vec(any_live(), 0..40),
        ) {
            let mut decoded = Vec::new();
            prop_assert_eq!(read_live(&put_live(&records), &mut decoded), Ok(()));
            prop_assert_eq!(decoded, records);
        }

        #[test]
        fn no_bytes_make_the_readers_panic(bytes: Vec<u8>) {
            let _ = read_sites(&bytes, &mut Vec::new());
            let _ = read_live(&bytes, &mut Vec::new());
        }
    }

    #[test]
    fn a_full_block_of_the_largest_numbers_is_not_too_large() {
        let mut largest = Amount::new(u64::MAX, u64::MAX);
        let stats = SiteStats { live: largest, allocated: largest, freed: largest, peak: largest };
        let stack = Some(StackId(u64::MAX));
        let (function, object) = (Some(AllocFn::Malloc), ObjectNumber::of(2));
        let site = CapturedSite { stack, function, object, stats, process: 0 };
        let bytes = put_sites(&vec![site; rows_a_block(&[site])]).len();
        assert!(bytes <= crate::capture::format::MAX_BLOCK_BYTES, "{bytes}");
        largest.spread = Spread {
            samples: u64::MAX,
            sampled_bytes: u64::MAX,
            unit_bytes: 1.0,
            ..Spread::default()
        };
        let stats = SiteStats { live: largest, allocated: largest, freed: largest, peak: largest };
        let site = CapturedSite { stats, ..site };
        assert!(rows_a_block(&[site]) < ROWS_A_BLOCK);
        let bytes = put_sites(&vec![site; rows_a_block(&[site])]).len();
        assert!(bytes <= crate::capture::format::MAX_BLOCK_BYTES, "{bytes}");
    }
}
