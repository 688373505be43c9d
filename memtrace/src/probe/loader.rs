//! The dynamic linker's word to debuggers that the loaded libraries change: `_dl_debug_state`, an
//! empty function that it calls before and after (the `r_brk` of glibc's and musl's `link.h`).

use object::ReadRef;

use super::{
    plan::{ObjectPlan, PlannedProbe, covering, function_code},
    site,
};
use crate::{
    allocator::AllocatorId,
    elf::{Elf, SymbolKind},
    model::{AllocFn, mapping::Mapping},
    sys::kernel::KernelVersion,
};

/// Plans the probe of an object that defines the function. It is no allocator; the plan has one
/// probe, at the entry, without a return half.
pub fn plan_loader<'d, R: ReadRef<'d>>(
    elf: &Elf<'d, R>,
    mappings: &[Mapping],
    kernel: KernelVersion,
) -> Option<ObjectPlan> {
    let function = AllocFn::DlDebugState;
    let symbol = elf.functions(&[function.name()]).into_iter().next()?;
    if symbol.kind != SymbolKind::Function {
        return None;
    }
    let code = function_code(elf, symbol.address, symbol.size_bytes).ok()?;
    let entry = site::at_entry(elf.machine(), code, kernel).ok()?;
    let file_offset = elf.file_offset(symbol.address)?.checked_add(entry.offset)?;
    let probe = PlannedProbe {
        function,
        shape: function.shape(),
        arguments: entry.arguments,
        aliases: Vec::new(),
        symbol_address: symbol.address,
        symbol_size_bytes: symbol.size_bytes,
        file_offset,
        site_offset: entry.offset,
        cost: entry.cost,
        code: entry.code,
    };
    Some(ObjectPlan {
        mapping: covering(mappings, file_offset)?.clone(),
        allocator: AllocatorId::Unknown,
        version: None,
        prefix: String::new(),
        build_id: elf.build_id().map(|build_id| build_id.id),
        probes: vec![probe],
        callers: Vec::new(),
        skipped: Vec::new(),
        notes: Vec::new(),
    })
}
