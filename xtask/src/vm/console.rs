//! Reading the verdict off a machine's console.

use anyhow::{Context, Result, bail, ensure};

/// What `init` prints when the tests have ended, before their exit status.
const RESULT: &str = "VM_RESULT: ";

/// What `init` prints when it starts, before the milliseconds since the kernel started.
const BOOTED: &str = "VM_BOOTED_MS: ";

/// What a kernel says when something is broken in it, also if the tests saw nothing.
const COMPLAINTS: [&str; 6] = [
    "Kernel panic",
    "BUG: ",
    "Oops: ",
    "WARNING: CPU",
    "general protection fault, probably",
    "unable to handle",
];

/// One sentence on tests that passed, or the reason why they did not.
pub fn verdict(log: &str) -> Result<String> {
    if let Some(complaint) = log.lines().find(|line| COMPLAINTS.iter().any(|it| line.contains(it)))
    {
        bail!("the kernel complained: {complaint}");
    }
    let status = number(log, RESULT).context("the machine stopped before the tests ended")?;
    ensure!(status == 0, "the tests exited with status {status}");
    let passed = passed(log).context("no summary of the tests")?;
    ensure!(passed > 0, "no test ran");
    let booted_ms = number(log, BOOTED).context("init did not say when it started")?;
    Ok(format!("{passed} passed, {:.1} s to boot", booted_ms as f64 / 1e3))
}

/// N of libtest's `test result: ok. N passed; ...`.
fn passed(log: &str) -> Option<u64> {
    number(log, "test result: ok. ")
}

/// The number that follows `marker`, wherever in a line: the kernel's own messages may precede.
fn number(log: &str, marker: &str) -> Option<u64> {
    let rest = &log[log.find(marker)? + marker.len()..];
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: &str = "\
[    1.2] Run /init as init process\r\n\
VM_BOOTED_MS: 1240\r\n\
test smoke::attach ... ok\r\n\
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured\r\n\
VM_RESULT: 0\r\n";

    fn refusal(log: &str) -> String {
        verdict(log).unwrap_err().to_string()
    }

    #[test]
    fn passed_tests_are_counted() {
        assert_eq!(verdict(PASSED).unwrap(), "3 passed, 1.2 s to boot");
    }

    #[test]
    fn a_failed_test_fails() {
        let log = PASSED.replace("VM_RESULT: 0", "VM_RESULT: 101");
        assert!(refusal(&log).contains("101"));
    }

    #[test]
    fn a_filter_that_matches_no_test_fails() {
        assert!(refusal(&PASSED.replace("3 passed", "0 passed")).contains("no test ran"));
    }

    #[test]
    fn a_machine_that_dies_early_fails() {
        assert!(refusal(&PASSED.replace("VM_RESULT", "")).contains("before the tests ended"));
        assert!(refusal("").contains("before the tests ended"));
    }

    #[test]
    fn a_kernel_complaint_fails_although_the_tests_passed() {
        let log = format!("[ 2.0] BUG: sleeping function called from x\r\n{PASSED}");
        assert!(refusal(&log).contains("sleeping function"));
    }
}
