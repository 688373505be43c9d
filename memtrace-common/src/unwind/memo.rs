//! Which rule an address has, once it was found: most frames of a stack were on the one before.
//!
//! An entry is one word, so that programs that run at the same time cannot mix two entries up. The
//! entries are of one version of the mappings: each version has a table of its own, which is
//! emptied before the version becomes current.

/// log2 of the entries.
const PLACE_BITS: u32 = 14;
/// Entries.
pub const PLACES: usize = 1 << PLACE_BITS;
/// Bits of an entry that hold the rule; the address, of at most 48 bits, is above them.
const RULE_BITS: u32 = 16;

/// The entries of one version of the mappings.
pub type Memo = [u64; PLACES];

const _: () = assert!(super::table::MAX_RULES <= 1 << RULE_BITS);

/// Where an address has its entry (Fibonacci hashing: the multiplier is 2^64 over the golden ratio).
#[inline(always)]
pub fn place(address: u64) -> usize {
    (address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - PLACE_BITS)) as usize
}

/// The entry of an address whose rule has this number.
#[inline(always)]
pub fn entry(address: u64, rule: u32) -> u64 {
    address << RULE_BITS | u64::from(rule)
}

/// Whether an entry is that of the address. That of address 0 would be the empty entry: it is in
/// no mapping.
#[inline(always)]
pub fn is_of(entry: u64, address: u64) -> bool {
    entry >> RULE_BITS == address && address != 0
}

/// The number of the rule in an entry.
#[inline(always)]
pub fn rule(entry: u64) -> u32 {
    entry as u32 & ((1 << RULE_BITS) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_of_its_address_alone_and_holds_its_rule() {
        let (address, number) = (0x7fff_ffff_f123, 8191);
        let noted = entry(address, number);
        assert!(is_of(noted, address) && !is_of(noted, address + 1) && !is_of(0, 0));
        assert_eq!(rule(noted), number);
        assert!(place(address) < PLACES && place(u64::MAX) < PLACES);
    }

    #[test]
    fn an_address_of_more_than_48_bits_is_not_taken_for_another() {
        let address = 0xffff_7fff_0000_1000;
        assert!(!is_of(entry(address, 1), address));
    }
}
