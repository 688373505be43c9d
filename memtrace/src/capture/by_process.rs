//! Stacks split by process: the process becomes the frame at the root.

use std::{collections::BTreeMap, sync::Arc};

use hashbrown::HashMap;

use super::Capture;
use crate::model::stack::{Frame, NamedStack, PROCESS, StackId};

impl Capture {
    /// Lets every stack begin with its process, so that sites of equal names are told apart, and
    /// pictures of stacks are split. Nothing changes where one process was traced alone.
    pub fn split_by_process(&mut self) {
        let roots: BTreeMap<u8, Arc<Frame>> =
            self.processes.iter().map(|it| (it.number, root(&it.name()))).collect();
        let owners: HashMap<StackId, u8> =
            self.sites.iter().filter_map(|site| Some((site.stack?, site.process))).collect();
        for (id, stack) in &mut self.stacks {
            if let Some(root) = owners.get(id).and_then(|number| roots.get(number)) {
                put_below(stack, root);
            }
        }
    }
}

impl super::CapturedProcess {
    /// For people: `gunicorn (pid 4243)`.
    pub fn name(&self) -> String {
        let target = self.ending.as_ref().map_or(&self.header.target, |ending| &ending.target);
        format!("{} (pid {})", target.command, target.pid)
    }
}

fn root(name: &str) -> Arc<Frame> {
    Arc::new(Frame { function: name.to_owned(), module: PROCESS.to_owned(), ..Frame::default() })
}

/// What says that the root side is missing goes between.
fn put_below(stack: &mut NamedStack, root: &Arc<Frame>) {
    if let Some(label) = stack.missing_root.take() {
        let missing = Frame { function: label.into_owned(), ..Frame::default() };
        stack.frames.push(Arc::new(missing));
    }
    stack.frames.push(root.clone());
}
