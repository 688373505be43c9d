//! The colours of frames.

use std::hash::{Hash, Hasher};

use inferno::flamegraph::color::{Color, PaletteMap};

use crate::model::stack::{Frame, Language};

/// The allocation function, at the tip of a stack.
const LEAF: Color = Color { r: 226, g: 122, b: 114 };

/// Yellow.
const PYTHON_HUE: f64 = 48.0;

/// What stands for missing frames, and for all stacks together.
const MISSING: Color = Color { r: 190, g: 190, b: 190 };

/// What a name stands for.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    Frame(&'a Frame),
    /// The allocation function.
    Call,
    /// Frames that are missing.
    Missing,
}

/// One hue for each module, so that a library is seen at a glance; the same in every run.
pub(super) fn of(sources: &[(String, Source<'_>)]) -> PaletteMap {
    let mut palette = PaletteMap::default();
    // inferno's name for the bottom.
    palette.insert("", MISSING);
    for (name, source) in sources {
        palette.insert(name, colour_of(*source));
    }
    palette
}

fn colour_of(source: Source<'_>) -> Color {
    match source {
        Source::Frame(frame) => colour(frame),
        Source::Call => LEAF,
        Source::Missing => MISSING,
    }
}

/// Python's frames are yellow; the others have a hue from the module, away from that and from the
/// red of [`LEAF`]. A little lighter or darker: Python by file, the others by function.
fn colour(frame: &Frame) -> Color {
    let lighter = |text: &str| 0.75 + (hash(text) % 8) as f64 * 0.012;
    match frame.language {
        Language::Python => from_hsl(PYTHON_HUE, 0.9, lighter(&frame.module) - 0.1),
        Language::Native => {
            let hue = (hash(&frame.module) % 240) as f64 + 80.0;
            from_hsl(hue, 0.62, lighter(&frame.function))
        }
    }
}

/// FNV-1a, because the standard library's hash may change between releases.
fn hash(text: &str) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    text.hash(&mut hasher);
    hasher.finish()
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        // The low bits of FNV are weak on short texts.
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

/// Hue in degrees, saturation and lightness from 0 to 1 (CSS Color 3, section 4.2.4).
fn from_hsl(hue: f64, saturation: f64, lightness: f64) -> Color {
    let channel = |offset: f64| {
        let k = (offset + hue / 30.0) % 12.0;
        let amplitude = saturation * lightness.min(1.0 - lightness);
        let value = lightness - amplitude * (k - 3.0).min(9.0 - k).clamp(-1.0, 1.0);
        (value * 255.0).round() as u8
    };
    Color { r: channel(0.0), g: channel(8.0), b: channel(4.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::sample;

    #[test]
    fn python_frames_have_a_colour_of_their_own() {
        let is_yellow = |colour: Color| colour.r > 230 && colour.g > 180 && colour.b < 160;
        let report = sample::python();
        for frame in report.sites.iter().flat_map(|site| &site.stack.frames) {
            let is_python = frame.language == Language::Python;
            assert_eq!(is_yellow(colour(frame)), is_python, "{frame:?} {:?}", colour(frame));
        }
    }
}
