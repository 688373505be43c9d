//! The stacks of the target's threads.

use super::{Inspector, objects::Loaded, pages::claim};
use crate::{
    analysis::residency::Claim,
    model::{
        census::{Refusal, RssKind},
        mapping::Mapping,
    },
    threads::{Target, ThreadStack, by_stack_pointers},
};

/// What was found.
pub(super) struct Stacks {
    pub(super) stacks: Vec<ThreadStack>,
    pub(super) refusal: Option<Refusal>,
}

/// How many there are.
#[derive(Clone, Copy)]
pub(super) struct Count {
    pub(super) live: u64,
    pub(super) cached: u64,
}

impl Stacks {
    pub(super) fn count(&self) -> Count {
        let cached = self.stacks.iter().filter(|stack| stack.is_cached).count() as u64;
        Count { live: self.stacks.len() as u64 - cached, cached }
    }

    pub(super) fn claims(&self) -> impl Iterator<Item = Claim> {
        self.stacks.iter().map(|stack| {
            let kind = if stack.is_cached { RssKind::CachedStacks } else { RssKind::ThreadStacks };
            claim(stack.extent.start, stack.extent.end, kind)
        })
    }
}

/// The stacks of all threads but the main one, whose stack the kernel names.
pub(super) fn find(inspector: &Inspector, loaded: &Loaded, maps: &[Mapping]) -> Stacks {
    let Inspector { proc, process, memory, pagemap, .. } = inspector;
    let target = Target { memory, residency: pagemap, maps };
    let main_thread = process.namespace_pids.last().copied().unwrap_or(process.pid);
    let lists = loaded.objects.iter().find_map(|object| object.facts.lists);
    if let (Some(lists), Some(data)) = (lists, loaded.linker_data()) {
        let stacks = lists.stacks(&target, data, main_thread);
        return Stacks { stacks, refusal: None };
    }
    let stacks = by_stack_pointers(&proc.stack_pointers(process.pid), maps);
    let others = process.threads.saturating_sub(1);
    let refusal = (others > stacks.len() as u64).then(|| Refusal {
        part: "thread stacks".to_owned(),
        reason: format!(
            "{} of {others} were found: this C library keeps no list of them, and a thread that \
             runs does not tell where its stack is; the others are among other anonymous memory",
            stacks.len()
        ),
    });
    Stacks { stacks, refusal }
}
