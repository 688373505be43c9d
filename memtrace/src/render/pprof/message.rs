//! The messages of pprof's `profile.proto`, by their published field numbers
//! (github.com/google/pprof, proto/profile.proto). Texts are indices in the string table; ids
//! count from 1, and 0 is none.

use prost::Message;

/// `perftools.profiles.Profile`, without `drop_frames`, `keep_frames` and `doc_url`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Profile {
    /// What the values of a sample are.
    #[prost(message, repeated, tag = "1")]
    pub(super) sample_type: Vec<ValueType>,
    /// The samples.
    #[prost(message, repeated, tag = "2")]
    pub(super) sample: Vec<Sample>,
    /// The objects; the first is the program.
    #[prost(message, repeated, tag = "3")]
    pub(super) mapping: Vec<Mapping>,
    /// The places in code.
    #[prost(message, repeated, tag = "4")]
    pub(super) location: Vec<Location>,
    /// The functions.
    #[prost(message, repeated, tag = "5")]
    pub(super) function: Vec<Function>,
    /// The texts; the first is empty.
    #[prost(string, repeated, tag = "6")]
    pub(super) string_table: Vec<String>,
    /// Start, nanoseconds since 1970.
    #[prost(int64, tag = "9")]
    pub(super) time_nanos: i64,
    /// Length, nanoseconds.
    #[prost(int64, tag = "10")]
    pub(super) duration_nanos: i64,
    /// What is between two samples.
    #[prost(message, optional, tag = "11")]
    pub(super) period_type: Option<ValueType>,
    /// How much of it.
    #[prost(int64, tag = "12")]
    pub(super) period: i64,
    /// Texts for a person.
    #[prost(int64, repeated, tag = "13")]
    pub(super) comment: Vec<i64>,
    /// The type that is shown first.
    #[prost(int64, tag = "14")]
    pub(super) default_sample_type: i64,
}

/// A type and its unit.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct ValueType {
    /// Its name.
    #[prost(int64, tag = "1")]
    pub(super) r#type: i64,
    /// `bytes` or `count`.
    #[prost(int64, tag = "2")]
    pub(super) unit: i64,
}

/// A stack and its values.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Sample {
    /// Leaf first.
    #[prost(uint64, repeated, tag = "1")]
    pub(super) location_id: Vec<u64>,
    /// As many as there are types.
    #[prost(int64, repeated, tag = "2")]
    pub(super) value: Vec<i64>,
    /// What else is known.
    #[prost(message, repeated, tag = "3")]
    pub(super) label: Vec<Label>,
}

/// A key and its value, without `num` and `num_unit`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Label {
    /// Its name.
    #[prost(int64, tag = "1")]
    pub(super) key: i64,
    /// Its value.
    #[prost(int64, tag = "2")]
    pub(super) str: i64,
}

/// A mapped object.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Mapping {
    /// From 1.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// First address.
    #[prost(uint64, tag = "2")]
    pub(super) memory_start: u64,
    /// One past the last.
    #[prost(uint64, tag = "3")]
    pub(super) memory_limit: u64,
    /// Of the first address.
    #[prost(uint64, tag = "4")]
    pub(super) file_offset: u64,
    /// Its path.
    #[prost(int64, tag = "5")]
    pub(super) filename: i64,
    /// In hex.
    #[prost(int64, tag = "6")]
    pub(super) build_id: i64,
    /// Functions were looked up.
    #[prost(bool, tag = "7")]
    pub(super) has_functions: bool,
    /// Files were.
    #[prost(bool, tag = "8")]
    pub(super) has_filenames: bool,
    /// Lines were.
    #[prost(bool, tag = "9")]
    pub(super) has_line_numbers: bool,
    /// Inlined functions were.
    #[prost(bool, tag = "10")]
    pub(super) has_inline_frames: bool,
}

/// A place in code, without `address` and `is_folded`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Location {
    /// From 1.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// The object.
    #[prost(uint64, tag = "2")]
    pub(super) mapping_id: u64,
    /// Innermost first.
    #[prost(message, repeated, tag = "4")]
    pub(super) line: Vec<Line>,
}

/// A line of a function.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Line {
    /// The function.
    #[prost(uint64, tag = "1")]
    pub(super) function_id: u64,
    /// The line, from 1.
    #[prost(int64, tag = "2")]
    pub(super) line: i64,
}

/// A function, without `system_name` and `start_line`.
#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct Function {
    /// From 1.
    #[prost(uint64, tag = "1")]
    pub(super) id: u64,
    /// Its name.
    #[prost(int64, tag = "2")]
    pub(super) name: i64,
    /// Its source.
    #[prost(int64, tag = "4")]
    pub(super) filename: i64,
}
