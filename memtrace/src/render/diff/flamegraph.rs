//! A differential flamegraph: red is what grew, blue what shrank, by all that is above a frame.
//!
//! inferno colours the frames of two columns by what they did themselves, which is nothing for all
//! but the allocation functions. Here every frame has a name with its growth, and the colour of that.

use std::{collections::HashMap, io};

use inferno::flamegraph::{
    self, Options, TextTruncateDirection,
    color::{BackgroundColor, Color, PaletteMap},
};

use super::{folded::names, program, sides, words::headline};
use crate::{
    diff::Diff,
    model::size::Units,
    render::{flamegraph::write_sentence, label::clean},
};

/// Neither more nor less.
const SAME: u8 = 250;

/// The least of the two other parts of the colour of what changed the most.
const DEEPEST: u64 = 90;

/// Writes the SVG. Where there is nothing in either capture it is one that says so.
///
/// # Errors
/// Those of the writer.
pub fn write(diff: &Diff, units: Units, out: &mut impl io::Write) -> io::Result<()> {
    let title = format!("{} ({})", headline(diff, units), sides(&diff.total, units));
    let tree = Tree::of(diff);
    let lines = tree.lines(diff, units);
    if lines.is_empty() {
        let sentence = format!("In neither window is anything that was {}.", diff.view.label());
        return write_sentence([&title, &subtitle(diff), &sentence], out);
    }
    let mut palette = tree.palette(units);
    let mut options = Options::default();
    options.title = title;
    options.subtitle = Some(subtitle(diff));
    options.count_name = "bytes before or after, whichever is more".to_owned();
    options.name_type = "Frame:".to_owned();
    options.palette_map = Some(&mut palette);
    options.deterministic = true;
    options.bgcolors = Some(BackgroundColor::Grey);
    options.text_truncate_direction = TextTruncateDirection::Right;
    flamegraph::from_lines(&mut options, lines.iter().map(String::as_str), out)
}

fn subtitle(diff: &Diff) -> String {
    format!(
        "{} against {}; red: grew, blue: shrank; as wide as the larger of both",
        clean(&program(&diff.after)),
        clean(&program(&diff.before)),
    )
}

/// All stacks from the root on; the first node is the root of all.
struct Tree {
    nodes: Vec<Node>,
    /// For each site the nodes of its names.
    paths: Vec<Vec<usize>>,
}

#[derive(Default)]
struct Node {
    name: String,
    growth_bytes: i64,
    children: HashMap<String, usize>,
}

impl Tree {
    fn of(diff: &Diff) -> Self {
        let mut tree = Self { nodes: vec![Node::default()], paths: Vec::new() };
        for site in &diff.sites {
            let growth = site.change.growth_bytes;
            tree.grow(0, growth);
            let mut at = 0;
            let mut path = Vec::new();
            for name in names(site, diff.lines) {
                at = tree.child(at, name);
                tree.grow(at, growth);
                path.push(at);
            }
            tree.paths.push(path);
        }
        tree
    }

    fn grow(&mut self, at: usize, bytes: i64) {
        let growth = &mut self.nodes[at].growth_bytes;
        *growth = growth.wrapping_add(bytes);
    }

    fn child(&mut self, at: usize, name: String) -> usize {
        let next = self.nodes.len();
        let child = *self.nodes[at].children.entry(name.clone()).or_insert(next);
        if child == next {
            self.nodes.push(Node { name, ..Node::default() });
        }
        child
    }

    fn lines(&self, diff: &Diff, units: Units) -> Vec<String> {
        let lines = diff.sites.iter().zip(&self.paths).map(|(site, path)| {
            let names: Vec<_> = path.iter().map(|at| self.nodes[*at].label(units)).collect();
            (names.join(";"), site.change.before.bytes.max(site.change.after.bytes))
        });
        lines
            .filter(|(_, bytes)| *bytes > 0)
            .map(|(names, bytes)| format!("{names} {bytes}"))
            .collect()
    }

    fn palette(&self, units: Units) -> PaletteMap {
        let most = self.nodes.iter().map(|node| node.growth_bytes.unsigned_abs()).max();
        let mut palette = PaletteMap::default();
        for node in &self.nodes {
            palette.insert(node.label(units), colour(node.growth_bytes, most.unwrap_or(0)));
        }
        palette
    }
}

impl Node {
    /// inferno's name for the bottom is none at all.
    fn label(&self, units: Units) -> String {
        match self.growth_bytes {
            _ if self.name.is_empty() => String::new(),
            0 => self.name.clone(),
            growth => format!("{} {}", self.name, units.signed_bytes(growth)),
        }
    }
}

/// The more, the deeper.
fn colour(growth_bytes: i64, most: u64) -> Color {
    let range = u128::from(u64::from(SAME) - DEEPEST);
    let depth = range * u128::from(growth_bytes.unsigned_abs()) / u128::from(most.max(1));
    let rest = SAME.saturating_sub(u8::try_from(depth).unwrap_or(u8::MAX));
    match growth_bytes {
        0 => Color { r: SAME, g: SAME, b: SAME },
        1.. => Color { r: 255, g: rest, b: rest },
        _ => Color { r: rest, g: rest, b: 255 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn red_grows_blue_shrinks_and_the_most_is_the_deepest() {
        let rgb = |growth| {
            let Color { r, g, b } = colour(growth, 100);
            (r, g, b)
        };
        assert_eq!(rgb(0), (250, 250, 250));
        assert_eq!(rgb(100), (255, 90, 90));
        assert_eq!(rgb(50), (255, 170, 170));
        assert_eq!(rgb(-100), (90, 90, 255));
    }
}
