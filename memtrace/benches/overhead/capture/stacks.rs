//! A capture as a long window of a large server leaves it: very many distinct stacks of few
//! functions.

use std::{fs::File, path::Path, sync::Arc};

use anyhow::Result;
use memtrace::{
    capture::{Capture, CapturedSite, LiveItem, Writer},
    model::{
        AllocFn,
        site::{Amount, SiteStats},
        stack::{Frame, NamedStack, StackId},
    },
};

pub const STACKS: u32 = 100_000;
pub const DEPTH: usize = 30;
const FUNCTIONS: usize = 20_000;

/// Every stack has a site that holds a few blocks.
pub fn write(path: &Path) -> Result<()> {
    let functions: Vec<Arc<Frame>> = (0..FUNCTIONS).map(function).collect();
    let mut capture = Capture::default();
    "bench".clone_into(&mut capture.header.memtrace_version);
    for index in 0..STACKS {
        let id = StackId(u64::from(index) + 1);
        capture.stacks.push((id, stack(&functions, index as usize)));
        capture.sites.push(site(id, index));
        capture.live.extend((0..blocks(index)).map(|block| live(index, block)));
    }
    let writer = Writer::new(File::create(path)?, &capture.header)?;
    writer.finish(&capture)?;
    Ok(())
}

fn function(index: usize) -> Arc<Frame> {
    Arc::new(Frame {
        function: format!("service::module_{}::Handler<T>::function_{index}", index % 300),
        module: "service".to_owned(),
        file: Some(format!("/srv/service/src/module_{}.rs", index % 300)),
        line: Some(index as u32 % 2000 + 1),
        ..Frame::default()
    })
}

/// The functions of a stack, leaf first: the nearer to the root, the fewer there are.
fn stack(functions: &[Arc<Frame>], index: usize) -> NamedStack {
    let at = |depth: usize| {
        let spread = if depth == 0 { FUNCTIONS } else { (FUNCTIONS / (depth * depth)).max(1) };
        let hash = (index + depth).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        functions[(depth * 97 + hash % spread) % FUNCTIONS].clone()
    };
    NamedStack { frames: (0..DEPTH).map(at).collect(), missing_root: None }
}

fn blocks(index: u32) -> u64 {
    u64::from(index % 5) + 1
}

fn site(id: StackId, index: u32) -> CapturedSite {
    let amount = Amount::new(blocks(index) * block_bytes(index), blocks(index));
    let stats = SiteStats { live: amount, allocated: amount, peak: amount, ..SiteStats::default() };
    CapturedSite {
        stack: Some(id),
        function: Some(AllocFn::Malloc),
        object: Default::default(),
        stats,
        process: 0,
    }
}

fn block_bytes(index: u32) -> u64 {
    64 + u64::from(index) % 4096
}

fn live(site: u32, block: u64) -> LiveItem {
    let address = 0x7f00_0000_0000 + (u64::from(site) * 8 + block) * 8192;
    LiveItem { address, bytes: block_bytes(site), site, ..LiveItem::default() }
}
