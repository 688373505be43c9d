//! The parts of the page that are the same in every one.

use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

const SKELETON: &str = include_str!("assets/page.html");

const STYLE: &str = include_str!("assets/style.css");

/// One after the other in one scope, in this order.
const SCRIPTS: [&str; 24] = [
    include_str!("assets/format.js"),
    include_str!("assets/dom.js"),
    include_str!("assets/data.js"),
    include_str!("assets/state.js"),
    include_str!("assets/head.js"),
    include_str!("assets/verdict.js"),
    include_str!("assets/rss.js"),
    include_str!("assets/chart.js"),
    include_str!("assets/changes.js"),
    include_str!("assets/timeline.js"),
    include_str!("assets/brush.js"),
    include_str!("assets/colours.js"),
    include_str!("assets/trees.js"),
    include_str!("assets/flame.js"),
    include_str!("assets/flame_input.js"),
    include_str!("assets/groups.js"),
    include_str!("assets/rows.js"),
    include_str!("assets/sites.js"),
    include_str!("assets/pins.js"),
    include_str!("assets/arena_pins.js"),
    include_str!("assets/threads.js"),
    include_str!("assets/heap.js"),
    include_str!("assets/quality.js"),
    include_str!("assets/main.js"),
];

/// Stands in the skeleton for the data.
const DATA: &str = "%DATA%";

/// What is before the data and what is behind it.
pub(super) fn page() -> (String, String) {
    let script = script();
    let (head, tail) = SKELETON.split_once(DATA).unwrap_or((SKELETON, ""));
    let head = head.replace("%SCRIPT_HASH%", &hash(&script)).replace("%STYLE%", STYLE);
    (head, tail.replace("%SCRIPT%", &script))
}

fn script() -> String {
    format!("\"use strict\";\n(() => {{\n{}}})();\n", SCRIPTS.join("\n"))
}

/// As the page's policy names the script that it lets run (Content Security Policy Level 3,
/// section 2.3.1).
fn hash(script: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(script)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_placeholder_is_filled() {
        let (head, tail) = page();
        for placeholder in ["%DATA%", "%STYLE%", "%SCRIPT%", "%SCRIPT_HASH%"] {
            assert!(SKELETON.contains(placeholder), "{placeholder}");
            assert!(!head.contains(placeholder) && !tail.contains(placeholder), "{placeholder}");
        }
    }

    #[test]
    fn the_page_asks_nobody_for_anything() {
        let (head, tail) = page();
        for part in [head, tail] {
            let outside =
                ["src=", "@import", "url(", "fetch(", "XMLHttpRequest", "WebSocket", "import("];
            outside.iter().for_each(|it| assert!(!part.contains(it), "{it}"));
            let addresses: Vec<_> = part.match_indices("http").map(|(at, _)| &part[at..]).collect();
            let allowed = ["http-equiv", "http://www.w3.org/2000/svg"];
            assert!(addresses.iter().all(|it| allowed.iter().any(|known| it.starts_with(known))));
        }
    }

    #[test]
    fn the_scripts_make_no_markup_of_text() {
        for script in SCRIPTS {
            for way in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "</"]
            {
                assert!(!script.contains(way), "{way}");
            }
        }
    }
}
