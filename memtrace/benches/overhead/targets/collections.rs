//! Allocates through the standard library's collections until it is killed, in two threads.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    rc::Rc,
};

fn words(round: u64) -> Vec<String> {
    (0..200).map(|index| format!("{:x}-{}", round.wrapping_mul(31) % 997, index)).collect()
}

fn count(words: &[String]) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for word in words {
        *counts.entry(word.to_uppercase()).or_default() += 1;
    }
    counts
}

fn sorted(counts: HashMap<String, usize>) -> BTreeMap<usize, Vec<Box<str>>> {
    let mut by_length: BTreeMap<usize, Vec<Box<str>>> = BTreeMap::new();
    for (word, _) in counts {
        by_length.entry(word.len()).or_default().push(word.into_boxed_str());
    }
    by_length
}

fn work() {
    let mut kept: VecDeque<Rc<BTreeMap<usize, Vec<Box<str>>>>> = VecDeque::new();
    for round in 0.. {
        kept.push_back(Rc::new(sorted(count(&words(round)))));
        if kept.len() > 20 {
            kept.pop_front();
        }
    }
}

fn main() {
    println!("ready");
    let other = std::thread::spawn(work);
    work();
    let _ = other.join();
}
