//! What the programs of the growth mode have to know of the running kernel.

use std::path::Path;

use memtrace_common::{growth::GrowthConfig, sample::Interval};

use super::{
    Btf, BtfError, ENUMERATOR_BYTES, KIND_ENUM, KIND_STRUCT, KIND_UNION, MEMBER_BYTES, Type, read,
    word,
};

/// Members of members that are looked into when they have no name of their own.
const DEEPEST: u32 = 4;

/// Reads it from the kernel's BTF. What this kernel has not got is 0: without offsets of counters the
/// kernel is of the kind that tells their values (before Linux 6.2).
///
/// # Errors
/// When there is no BTF, or it says nothing about folios.
pub fn growth_config(btf: &Path, interval: Interval) -> Result<GrowthConfig, BtfError> {
    let bytes = read(btf)?;
    config(&bytes, interval)
}

fn config(bytes: &[u8], interval: Interval) -> Result<GrowthConfig, BtfError> {
    let btf = Btf::parse(bytes).ok_or(BtfError::Unknown { what: "anything" })?;
    let folio_order =
        ["_folio_order", "_flags_1"].into_iter().find_map(|it| btf.offset("folio", it));
    let counter = btf.struct_named("percpu_counter");
    let step = counter.as_ref().map_or(0, |counter| counter.size_bytes);
    let count = counter.and_then(|counter| btf.offset_in(&counter, "count", DEEPEST));
    // Before Linux 6.2 they were of a type of their own, and the tracepoint told their values.
    let counters = match btf.struct_named("mm_rss_stat") {
        Some(_) => None,
        None => btf.offset("mm_struct", "rss_stat"),
    };
    Ok(GrowthConfig {
        interval: interval.exponent().into(),
        head_mask: 1
            << btf
                .enumerator("pageflags", "PG_head")
                .ok_or(BtfError::Unknown { what: "PG_head" })?,
        folio_order: folio_order.ok_or(BtfError::Unknown { what: "folio" })?,
        task_mm: btf.offset("task_struct", "mm").ok_or(BtfError::Unknown { what: "mm" })?,
        rss_count: counters.zip(count).map_or(0, |(counters, count)| counters + count),
        rss_step: step,
    })
}

impl Btf<'_> {
    /// Bytes from the start of a struct to a member, also of structs and unions without a name in it.
    pub(super) fn offset(&self, of: &str, name: &str) -> Option<u32> {
        self.offset_in(&self.struct_named(of)?, name, DEEPEST)
    }

    pub(super) fn offset_in(&self, of: &Type, name: &str, deepest: u32) -> Option<u32> {
        if ![KIND_STRUCT, KIND_UNION].contains(&of.kind) {
            return None;
        }
        of.trailer.clone().step_by(MEMBER_BYTES).find_map(|at| {
            let (found, id, bits) =
                (word(self.types, at)?, word(self.types, at + 4)?, word(self.types, at + 8)?);
            let bytes = if of.has_sizes { bits & 0xff_ffff } else { bits } / 8;
            if self.is_named(found, name) {
                return Some(bytes);
            }
            let is_nameless = deepest > 0 && self.is_named(found, "");
            let inner = is_nameless.then(|| self.type_with_id(id)).flatten()?;
            self.offset_in(&inner, name, deepest - 1)?.checked_add(bytes)
        })
    }

    /// The value of an enumerator, below 32.
    fn enumerator(&self, of: &str, name: &str) -> Option<u32> {
        let is_it = |found: &Type| found.kind == KIND_ENUM && self.is_named(found.name, of);
        let enumeration = self.types().find(is_it)?;
        let at = enumeration
            .trailer
            .step_by(ENUMERATOR_BYTES)
            .find(|at| word(self.types, *at).is_some_and(|found| self.is_named(found, name)))?;
        word(self.types, at + 4).filter(|value| *value < 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::btf::KERNEL_BTF;

    #[test]
    fn the_running_kernel_says_where_its_counters_are() {
        let config = growth_config(Path::new(KERNEL_BTF), Interval::from_exponent(19)).unwrap();
        assert_eq!(config.interval, 19);
        assert!(config.head_mask.is_power_of_two());
        assert!(config.folio_order >= 64 && config.task_mm > 0, "{config:?}");
        // `struct percpu_counter` has a lock, a count, a list and a pointer.
        assert!(
            config.rss_step == 0 || (config.rss_count > 0 && config.rss_step >= 24),
            "{config:?}"
        );
    }

    #[test]
    fn what_is_no_btf_is_refused() {
        assert!(config(b"no BTF at all", Interval::EXACT).is_err());
    }
}
