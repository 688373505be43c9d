//! Which mapping owns which addresses: an interval map. Geometry only; accounting is in
//! [`super::mappings`].

use std::collections::BTreeMap;

/// Names a mapping, of which one or more pieces are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingId(pub u32);

/// A contiguous rest of one mapping: addresses `start..end`, not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// Bytes at the end that only rounding to pages added and that nobody asked for.
    pub slack_bytes: u64,
    /// Of what it is a piece.
    pub mapping: MappingId,
}

impl Piece {
    /// Addresses that it spans.
    pub fn span_bytes(&self) -> u64 {
        self.end - self.start
    }

    /// Bytes that were asked for.
    pub fn asked_bytes(&self) -> u64 {
        self.span_bytes() - self.slack_bytes
    }

    /// The parts below and above an address; the slack stays at the upper end.
    fn split(self, at: u64) -> (Option<Self>, Option<Self>) {
        let at = at.clamp(self.start, self.end);
        let upper_slack = self.slack_bytes.min(self.end - at);
        let lower = Self { end: at, slack_bytes: self.slack_bytes - upper_slack, ..self };
        let upper = Self { start: at, slack_bytes: upper_slack, ..self };
        (lower.non_empty(), upper.non_empty())
    }

    fn non_empty(self) -> Option<Self> {
        (self.start < self.end).then_some(self)
    }
}

/// Disjoint pieces by address.
#[derive(Debug, Default)]
pub struct RangeSet {
    by_start: BTreeMap<u64, Piece>,
}

impl RangeSet {
    /// Adds a piece where nothing is; it grows together with its own mapping's neighbours.
    pub fn insert(&mut self, piece: Piece) {
        debug_assert!(!self.overlaps(piece.start, piece.end));
        let piece = self.joined_below(piece);
        let piece = self.joined_above(piece);
        self.by_start.insert(piece.start, piece);
    }

    /// Whether anything is in `start..end`.
    pub fn overlaps(&self, start: u64, end: u64) -> bool {
        self.last_below(end).is_some_and(|piece| piece.end > start)
    }

    /// Takes out everything in `start..end`, cutting pieces that reach beyond it.
    pub fn remove(&mut self, start: u64, end: u64) -> Vec<Piece> {
        let mut removed = Vec::new();
        while let Some(piece) = self.last_below(end).copied().filter(|piece| piece.end > start) {
            self.by_start.remove(&piece.start);
            let (lower, rest) = piece.split(start);
            let (inside, upper) = rest.map_or((None, None), |rest| rest.split(end));
            for kept in [lower, upper].into_iter().flatten() {
                self.by_start.insert(kept.start, kept);
            }
            removed.extend(inside);
        }
        removed
    }

    /// The piece that ends exactly at an address.
    pub fn ending_at(&self, end: u64) -> Option<Piece> {
        self.last_below(end).copied().filter(|piece| piece.end == end)
    }

    /// The piece that starts exactly at an address.
    pub fn starting_at(&self, start: u64) -> Option<Piece> {
        self.by_start.get(&start).copied()
    }

    /// All pieces, in ascending order.
    pub fn pieces(&self) -> impl Iterator<Item = &Piece> {
        self.by_start.values()
    }

    /// Number of pieces.
    pub fn piece_count(&self) -> usize {
        self.by_start.len()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.by_start.clear();
    }

    fn last_below(&self, end: u64) -> Option<&Piece> {
        self.by_start.range(..end).next_back().map(|(_, piece)| piece)
    }

    fn joined_below(&mut self, piece: Piece) -> Piece {
        match self.ending_at(piece.start) {
            // Slack in the middle of a piece cannot be told: such neighbours stay apart.
            Some(below) if below.mapping == piece.mapping && below.slack_bytes == 0 => {
                self.by_start.remove(&below.start);
                Piece { start: below.start, ..piece }
            }
            _ => piece,
        }
    }

    fn joined_above(&mut self, piece: Piece) -> Piece {
        match self.starting_at(piece.end) {
            Some(above) if above.mapping == piece.mapping && piece.slack_bytes == 0 => {
                self.by_start.remove(&above.start);
                Piece { start: piece.start, ..above }
            }
            _ => piece,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(start: u64, end: u64, slack_bytes: u64, mapping: u32) -> Piece {
        Piece { start, end, slack_bytes, mapping: MappingId(mapping) }
    }

    fn set(pieces: &[Piece]) -> RangeSet {
        let mut set = RangeSet::default();
        pieces.iter().for_each(|piece| set.insert(*piece));
        set
    }

    fn pieces(set: &RangeSet) -> Vec<Piece> {
        set.by_start.values().copied().collect()
    }

    #[test]
    fn a_hole_in_the_middle_leaves_two_pieces_and_the_slack_at_the_end() {
        let mut set = set(&[piece(0, 100, 3, 1)]);
        assert_eq!(set.remove(40, 60), [piece(40, 60, 0, 1)]);
        assert_eq!(pieces(&set), [piece(0, 40, 0, 1), piece(60, 100, 3, 1)]);
    }

    #[test]
    fn a_removal_over_several_pieces_cuts_the_outer_ones() {
        let mut set = set(&[piece(0, 10, 0, 1), piece(10, 20, 0, 2), piece(30, 40, 2, 3)]);
        let removed = set.remove(5, 35);
        assert_eq!(removed, [piece(30, 35, 0, 3), piece(10, 20, 0, 2), piece(5, 10, 0, 1)]);
        assert_eq!(pieces(&set), [piece(0, 5, 0, 1), piece(35, 40, 2, 3)]);
    }

    #[test]
    fn neighbours_are_not_touched() {
        let mut set = set(&[piece(0, 10, 0, 1), piece(20, 30, 0, 2)]);
        assert!(!set.overlaps(10, 20));
        assert_eq!(set.remove(10, 20), []);
        assert!(set.overlaps(9, 20) && set.overlaps(10, 21));
        assert_eq!(set.piece_count(), 2);
    }

    #[test]
    fn what_is_put_back_becomes_one_piece_again() {
        let whole = piece(0, 100, 3, 1);
        let mut set = set(&[whole]);
        for hole in set.remove(40, 60) {
            set.insert(hole);
        }
        assert_eq!(pieces(&set), [whole]);
    }

    #[test]
    fn neighbours_of_other_mappings_stay_apart() {
        assert_eq!(set(&[piece(0, 10, 0, 1), piece(10, 20, 0, 2)]).piece_count(), 2);
    }

    #[test]
    fn slack_between_two_pieces_keeps_them_apart() {
        let mut set = set(&[piece(0, 100, 30, 1)]);
        for upper in set.remove(80, 100) {
            set.insert(upper);
        }
        assert_eq!(pieces(&set), [piece(0, 80, 10, 1), piece(80, 100, 20, 1)]);
    }

    #[test]
    fn a_cut_inside_the_slack_leaves_a_part_that_nobody_asked_for() {
        let mut set = set(&[piece(0, 100, 30, 1)]);
        let removed = set.remove(80, 100);
        assert_eq!(removed[0].asked_bytes(), 0);
        assert_eq!(pieces(&set), [piece(0, 80, 10, 1)]);
    }
}
