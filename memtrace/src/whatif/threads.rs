//! The numbers of threads in a replay: few, because those of threads that ended are used again.

use hashbrown::HashMap;

/// Threads by number; 0 is the first thread of the process, which always is there.
#[derive(Debug)]
pub struct Threads {
    first_tid: u32,
    by_tid: HashMap<u32, u32>,
    free: Vec<u32>,
    next: u32,
}

impl Threads {
    /// Of a process whose first thread is this.
    pub fn new(first_tid: u32) -> Self {
        Self { first_tid, by_tid: HashMap::new(), free: Vec::new(), next: 1 }
    }

    /// The number of a thread; a new one where it was not seen before.
    pub fn number(&mut self, tid: u32) -> u32 {
        if tid == self.first_tid {
            return 0;
        }
        match self.by_tid.get(&tid) {
            Some(number) => *number,
            None => {
                let number = self.unnamed();
                self.by_tid.insert(tid, number);
                number
            }
        }
    }

    /// A thread of which nothing is known.
    pub fn unnamed(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        })
    }

    /// A number that no thread has any more.
    pub fn give_up(&mut self, number: u32) {
        self.free.push(number);
    }

    /// It ends; its number, if it had done something. The first thread is never told to.
    pub fn end(&mut self, tid: u32) -> Option<u32> {
        let number = self.by_tid.remove(&tid)?;
        self.give_up(number);
        Some(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_threads_that_ended_are_used_again() {
        let mut threads = Threads::new(7);
        assert_eq!([7, 8, 9, 8].map(|tid| threads.number(tid)), [0, 1, 2, 1]);
        assert_eq!((threads.end(8), threads.end(8), threads.end(7)), (Some(1), None, None));
        assert_eq!([10, 11].map(|tid| threads.number(tid)), [1, 3]);
    }
}
