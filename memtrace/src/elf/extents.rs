//! Where functions begin and end, whether they have names or not.

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindSection};
use object::{
    LittleEndian as Le, ReadRef,
    elf::{SHT_DYNSYM, SHT_SYMTAB, Sym64},
    read::elf::{SectionHeader, Sym},
};

use super::{
    Elf,
    symbols::{SymbolKind, function_kind},
};

/// Code between functions that are known is taken for functions that are not, if it is shorter.
const LARGEST_GAP_BYTES: u64 = 64 << 10;

/// A function, or several that are not known apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Extent {
    /// Address, as the file states it.
    pub address: u64,
    /// Length.
    pub size_bytes: u64,
}

impl Extent {
    fn end(&self) -> u64 {
        self.address.saturating_add(self.size_bytes)
    }
}

impl<'d, R: ReadRef<'d>> Elf<'d, R> {
    /// The functions that these addresses are in, each once: by their symbols, else by their unwind
    /// information, else all that is between two that are known so. Addresses that are in none are
    /// left out.
    pub fn extents(&self, addresses: &[u64]) -> Vec<Extent> {
        let mut known = self.extents_of_symbols();
        known.extend(self.extents_of_frames());
        known.sort_unstable();
        let found = addresses.iter().filter_map(|address| {
            let within = |it: &&Extent| it.address <= *address && *address < it.end();
            known.iter().find(within).copied().or_else(|| self.gap(&known, *address))
        });
        let mut found: Vec<Extent> = found.collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn extents_of_symbols(&self) -> Vec<Extent> {
        let tables = [SHT_DYNSYM, SHT_SYMTAB]
            .map(|kind| self.sections.iter().find(|it| it.sh_type(Le) == kind));
        let symbols = tables.into_iter().flatten().flat_map(|table| {
            table.data_as_array::<Sym64<Le>, R>(Le, self.data).unwrap_or_default()
        });
        let functions = symbols.filter(|it| function_kind(it) == Some(SymbolKind::Function));
        functions
            .map(|it| Extent { address: it.st_value(Le), size_bytes: it.st_size(Le) })
            .collect()
    }

    fn extents_of_frames(&self) -> Vec<Extent> {
        let Ok(Some(section)) = self.frame_section() else { return Vec::new() };
        if section.name != ".eh_frame" {
            return Vec::new();
        }
        let frames = EhFrame::new(section.data, LittleEndian);
        let bases = BaseAddresses::default().set_eh_frame(section.address);
        let mut entries = frames.entries(&bases);
        let mut found = Vec::new();
        while let Ok(Some(entry)) = entries.next() {
            if let CieOrFde::Fde(partial) = entry
                && let Ok(entry) = partial.parse(EhFrame::cie_from_offset)
            {
                found.push(Extent { address: entry.initial_address(), size_bytes: entry.len() });
            }
        }
        found
    }

    /// What is between the functions around an address.
    fn gap(&self, known: &[Extent], address: u64) -> Option<Extent> {
        let start = known.iter().filter(|it| it.end() <= address).map(Extent::end).max()?;
        let end = known.iter().map(|it| it.address).filter(|it| *it > address).min()?;
        let gap = Extent { address: start, size_bytes: end - start };
        (gap.size_bytes <= LARGEST_GAP_BYTES).then_some(gap)
    }
}
