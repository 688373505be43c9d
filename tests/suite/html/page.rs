//! What a person does with the page, and what it then shows.

use super::{artifacts, opened, scenario, write};

#[test]
fn look() {
    let file = write(&scenario::model_server(), "model-server.html");
    let mut browser = opened(&file);
    browser.screenshot(&artifacts().join("report.png"), true);
    assert_eq!(browser.complaints(), [""; 0]);
}
