//! Many reads at once.

use crate::model::memory::TargetMemory;

/// Reads `size` bytes at each address; `None` for each that cannot be read.
pub(super) fn read_all(
    memory: &impl TargetMemory,
    wanted: impl IntoIterator<Item = (u64, usize)>,
) -> Vec<Option<Vec<u8>>> {
    let mut read: Vec<(u64, Vec<u8>)> =
        wanted.into_iter().map(|(address, size)| (address, vec![0; size])).collect();
    let mut parts: Vec<(u64, &mut [u8])> =
        read.iter_mut().map(|(address, bytes)| (*address, bytes.as_mut_slice())).collect();
    let filled = memory.read_many(&mut parts);
    let bytes = read.into_iter().zip(filled);
    bytes.map(|((_, bytes), filled)| filled.then_some(bytes)).collect()
}
