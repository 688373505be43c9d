//! A real browser, driven by the Chrome DevTools Protocol over a pipe: no port, no driver program.
//! `--remote-debugging-pipe` reads commands from descriptor 3 and writes answers to 4, each JSON
//! and a NUL (Chromium, content/browser/devtools/devtools_pipe_handler.cc).

use std::{
    collections::VecDeque,
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{TIMEOUT, running::Running};

/// What Debian and others call it.
const NAMES: [&str; 4] =
    ["chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"];

/// A browser with one page; ended on drop.
pub struct Browser {
    commands: ChildStdin,
    messages: Receiver<Value>,
    events: VecDeque<Value>,
    session: Option<String>,
    last_id: u64,
    _process: Running,
    _profile: TempDir,
}

impl Browser {
    /// Starts it with an empty page.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut process = Running::start(&mut command(profile.path()));
        let commands = process.child().stdin.take().unwrap();
        let output = process.child().stdout.take().unwrap();
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let parts = BufReader::new(output).split(0).map_while(Result::ok);
            let values = parts.filter_map(|part| serde_json::from_slice(&part).ok());
            values.map(|value| sender.send(value)).take_while(Result::is_ok).for_each(drop);
        });
        let mut browser = Self {
            commands,
            messages,
            events: VecDeque::new(),
            session: None,
            last_id: 0,
            _process: process,
            _profile: profile,
        };
        browser.open_page();
        browser
    }

    fn open_page(&mut self) {
        let target = self.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attach);
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
    }

    /// Sends a command and returns its result; panics with the error.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({ "id": self.last_id, "method": method, "params": params });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.receive(method);
            if answer["id"] != self.last_id {
                self.events.push_back(answer);
                continue;
            }
            assert!(answer["error"].is_null(), "{method}: {}", answer["error"]);
            return answer["result"].clone();
        }
    }

    fn receive(&self, what: &str) -> Value {
        match self.messages.recv_timeout(TIMEOUT) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => panic!("no answer within {TIMEOUT:?}: {what}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the browser ended: {what}"),
        }
    }

    /// Opens a file and waits until it is loaded.
    pub fn open(&mut self, file: &Path) {
        let url = format!("file://{}", file.display());
        self.call("Page.navigate", json!({ "url": url }));
        self.wait_for("document.readyState === 'complete' && location.protocol === 'file:'");
    }

    /// The value of an expression of JavaScript; panics when it throws.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// [`Self::eval`] of what is a text.
    pub fn text(&mut self, expression: &str) -> String {
        let value = self.eval(expression);
        value.as_str().unwrap_or_else(|| panic!("{expression}: {value}")).to_owned()
    }

    /// Waits until an expression is true.
    pub fn wait_for(&mut self, condition: &str) {
        let start = Instant::now();
        while self.eval(condition) != true {
            assert!(start.elapsed() < TIMEOUT, "not within {TIMEOUT:?}: {condition}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Types a key: a character, or a name as in `KeyboardEvent.key`.
    pub fn key(&mut self, key: &str) {
        let text = if key.chars().count() == 1 { key } else { "" };
        let text = if key == "Enter" { "\r" } else { text };
        let code = match key {
            "Enter" => 13,
            "Escape" => 27,
            "Tab" => 9,
            "ArrowLeft" => 37,
            "ArrowUp" => 38,
            "ArrowRight" => 39,
            "ArrowDown" => 40,
            "PageUp" => 33,
            "PageDown" => 34,
            _ => 0,
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let params =
                json!({ "type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code });
            self.call("Input.dispatchKeyEvent", params);
        }
    }

    /// Types a text, character by character.
    pub fn type_text(&mut self, text: &str) {
        text.chars().for_each(|c| self.key(&c.to_string()));
    }

    /// Presses the mouse at a point of the viewport, drags it through others and releases it.
    pub fn drag(&mut self, points: &[(f64, f64)]) {
        let (first, last) = (points[0], points[points.len() - 1]);
        self.mouse("mouseMoved", first);
        self.mouse("mousePressed", first);
        points.iter().for_each(|point| self.mouse("mouseMoved", *point));
        self.mouse("mouseReleased", last);
    }

    /// A click at a point of the viewport.
    pub fn click_at(&mut self, point: (f64, f64)) {
        self.mouse("mouseMoved", point);
        self.mouse("mousePressed", point);
        self.mouse("mouseReleased", point);
    }

    /// Moves the mouse to a point of the viewport.
    pub fn hover(&mut self, point: (f64, f64)) {
        self.mouse("mouseMoved", point);
    }

    fn mouse(&mut self, kind: &str, (x, y): (f64, f64)) {
        let button = if kind == "mouseMoved" { "none" } else { "left" };
        let params = json!({ "type": kind, "x": x, "y": y, "button": button, "clickCount": 1 });
        self.call("Input.dispatchMouseEvent", params);
    }

    /// Scrolls an element into view and returns its rectangle: left, top, width, height.
    pub fn show(&mut self, selector: &str) -> [f64; 4] {
        let expression = format!(
            "(() => {{ const it = document.querySelector({selector:?}); \
             it.scrollIntoView({{ block: 'center', behavior: 'instant' }}); \
             const {{ x, y, width, height }} = it.getBoundingClientRect(); \
             return [x, y, width, height]; }})()"
        );
        serde_json::from_value(self.eval(&expression)).unwrap()
    }

    /// Clicks on the middle of an element.
    pub fn click(&mut self, selector: &str) {
        let [x, y, width, height] = self.show(selector);
        self.click_at((x + width / 2.0, y + height / 2.0));
    }

    /// The size of the viewport in CSS pixels.
    pub fn resize(&mut self, width: u32, height: u32, is_phone: bool) {
        let scale = if is_phone { 2 } else { 1 };
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": is_phone });
        self.call("Emulation.setDeviceMetricsOverride", params);
    }

    /// Whether the reader wants dark pages.
    pub fn prefer_dark(&mut self, is_dark: bool) {
        let value = if is_dark { "dark" } else { "light" };
        let feature = json!({ "name": "prefers-color-scheme", "value": value });
        self.call("Emulation.setEmulatedMedia", json!({ "features": [feature] }));
    }

    /// A picture of the viewport, or of the whole page.
    pub fn screenshot(&mut self, path: &Path, whole: bool) {
        let params = json!({ "format": "png", "captureBeyondViewport": whole });
        let params = if whole { self.whole_page(params) } else { params };
        let answer = self.call("Page.captureScreenshot", params);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, decode_base64(answer["data"].as_str().unwrap())).unwrap();
    }

    fn whole_page(&mut self, mut params: Value) -> Value {
        let size = self.call("Page.getLayoutMetrics", json!({}))["cssContentSize"].clone();
        params["clip"] =
            json!({ "x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1 });
        params
    }

    /// What the console was told since the last time: errors, warnings, exceptions, and what the
    /// page asked the network for.
    pub fn complaints(&mut self) -> Vec<String> {
        self.eval("0");
        self.events.extend(self.messages.try_iter());
        self.events.drain(..).filter_map(|event| complaint(&event)).collect()
    }
}

fn complaint(event: &Value) -> Option<String> {
    let params = &event["params"];
    let is_bad = match event["method"].as_str()? {
        "Runtime.exceptionThrown" | "Log.entryAdded" | "Runtime.consoleAPICalled" => true,
        "Network.requestWillBeSent" => {
            let url = params["request"]["url"].as_str().unwrap_or_default();
            !url.starts_with("file:")
        }
        _ => false,
    };
    is_bad.then(|| params.to_string())
}

fn command(profile: &Path) -> Command {
    let browser = NAMES.iter().find(|name| is_installed(name)).unwrap_or_else(|| {
        panic!("no browser: one of {NAMES:?}; `cargo xtask setup --for test` gets it")
    });
    // The shell turns its own pipes into descriptors 3 and 4.
    let script = "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null";
    let mut command = Command::new("sh");
    command.args(["-c", script, browser, "--headless", "--remote-debugging-pipe"]);
    // As root it refuses to run with its sandbox; it opens nothing but what the tests wrote.
    command.args(["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
    command.args(["--hide-scrollbars", "--force-color-profile=srgb", "--window-size=1280,900"]);
    command.arg(format!("--user-data-dir={}", profile.display()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command
}

fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

fn decode_base64(text: &str) -> Vec<u8> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    BASE64_STANDARD.decode(text).unwrap()
}
