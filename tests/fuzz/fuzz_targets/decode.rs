//! One record of arbitrary bytes: never a panic, and what decodes is what its encoding says.
#![no_main]

use libfuzzer_sys::fuzz_target;
use memtrace::{decode::decode, encode::encode};

fuzz_target!(|record: &[u8]| {
    if let Ok(event) = decode(record) {
        let mut encoded = Vec::new();
        encode(&event, &mut encoded);
        assert_eq!(encoded, record[..encoded.len()]);
    }
});
