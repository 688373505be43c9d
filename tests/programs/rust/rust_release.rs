//! A Rust program as it is released: optimised, without frame pointers. Keeps memory in two
//! threads, by collections, closures and generic code.

use std::{
    collections::HashMap,
    hint::black_box,
    io::{BufRead as _, Write as _},
    thread,
};

#[inline(never)]
fn keep_words(count: usize) -> Vec<String> {
    // Not handed on by a tail call, which would leave no frame.
    black_box((0..count).map(|number| format!("word {number:>40}")).collect())
}

#[inline(never)]
fn keep_index(words: &[String]) -> HashMap<&str, Box<usize>> {
    let entries = words.iter().enumerate().map(|(index, word)| (word.as_str(), Box::new(index)));
    black_box(entries.collect())
}

fn work() {
    let words = Box::leak(Box::new(keep_words(1000)));
    std::mem::forget(keep_index(words));
}

fn line() -> String {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    line
}

fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).unwrap();
}

fn main() {
    say(r#"ready {"malloc": 0, "free": 0, "realloc": 0}"#);
    line();
    let other = thread::spawn(work);
    work();
    other.join().unwrap();
    say(r#"{"kept": 2000}"#);
    line();
}
