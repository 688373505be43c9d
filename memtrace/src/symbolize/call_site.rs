//! Does a call instruction end here? A frame-pointer walk that followed a garbage `rbp` yields
//! words that look like return addresses; only those that a call instruction precedes can be.

/// The longest call instruction that [`ends_with_call`] looks for, from its opcode on.
pub const LONGEST_CALL_BYTES: usize = 7;

/// The near indirect call: `FF /2`.
const INDIRECT: u8 = 0xff;

/// The near direct call: `E8 rel32`.
const DIRECT: u8 = 0xe8;

/// Whether the bytes just before a return address end in an x86-64 call instruction: `E8 rel32`
/// or `FF /2` of any length (Intel SDM volume 2, CALL). Prefixes come before the opcode and do
/// not matter.
///
/// Give it [`LONGEST_CALL_BYTES`] bytes, or fewer at the start of a file.
pub fn ends_with_call(before: &[u8]) -> bool {
    let from_end = |length: usize| before.len().checked_sub(length).map(|start| &before[start..]);
    from_end(5).is_some_and(|tail| tail[0] == DIRECT)
        || (2..=LONGEST_CALL_BYTES).filter_map(from_end).any(is_indirect_call)
}

/// Whether the bytes are exactly one `FF /2` instruction.
fn is_indirect_call(bytes: &[u8]) -> bool {
    bytes[0] == INDIRECT && (bytes[1] >> 3) & 7 == 2 && indirect_length(bytes) == bytes.len()
}

/// The length that ModRM (and SIB) ask for; 0 when a SIB byte is missing.
fn indirect_length(bytes: &[u8]) -> usize {
    let (mode, register) = (bytes[1] >> 6, bytes[1] & 7);
    let sib_base = (mode != 3 && register == 4).then(|| bytes.get(2).map(|sib| sib & 7));
    let sib_bytes = usize::from(sib_base.is_some());
    match (mode, register, sib_base) {
        (_, _, Some(None)) => 0,
        (0, 5, _) | (0, _, Some(Some(5))) => 6 + sib_bytes,
        (0, ..) => 2 + sib_bytes,
        (1, ..) => 3 + sib_bytes,
        (2, ..) => 6 + sib_bytes,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use iced_x86::{Code, Decoder, DecoderOptions};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn calls_of_every_length_are_recognised() {
        let calls: [&[u8]; 10] = [
            &[0xe8, 1, 2, 3, 4],                      // call rel32
            &[0xff, 0xd0],                            // call rax
            &[0x41, 0xff, 0xd4],                      // call r12
            &[0xff, 0x14, 0xc8],                      // call [rax+rcx*8]
            &[0xff, 0x50, 0x18],                      // call [rax+0x18]
            &[0xff, 0x54, 0x24, 0x08],                // call [rsp+8]
            &[0xff, 0x15, 1, 2, 3, 4],                // call [rip+rel32]
            &[0xff, 0x90, 1, 2, 3, 4],                // call [rax+disp32]
            &[0xff, 0x94, 0x24, 1, 2, 3, 4],          // call [rsp+disp32]
            &[0x65, 0xff, 0x14, 0x25, 0x10, 0, 0, 0], // call gs:[0x10]
        ];
        for call in calls {
            assert!(ends_with_call(call), "{call:02x?}");
        }
    }

    #[test]
    fn other_instructions_are_not_calls() {
        let others: [&[u8]; 7] = [
            &[],
            &[0xe8],
            &[0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90],
            &[0xff, 0xe0],             // jmp rax
            &[0xff, 0x25, 1, 2, 3, 4], // jmp [rip+rel32]
            &[0xff, 0x14],             // its SIB byte is missing
            &[0xe8, 1, 2, 3],          // its last byte is missing
        ];
        for other in others {
            assert!(!ends_with_call(other), "{other:02x?}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_full_decoder(bytes in prop::collection::vec(any::<u8>(), 0..8)) {
            let decoded = (0..bytes.len()).any(|start| {
                let mut decoder = Decoder::new(64, &bytes[start..], DecoderOptions::NONE);
                let instruction = decoder.decode();
                matches!(instruction.code(), Code::Call_rel32_64 | Code::Call_rm64)
                    && instruction.len() == bytes.len() - start
            });
            prop_assert_eq!(ends_with_call(&bytes), decoded);
        }

        #[test]
        fn agrees_with_a_full_decoder_on_indirect_calls(
            modrm in any::<u8>(),
            rest in prop::collection::vec(any::<u8>(), 0..6),
        ) {
            let mut bytes = vec![INDIRECT, modrm];
            bytes.extend(rest);
            bytes.truncate(LONGEST_CALL_BYTES);
            let decoded = (0..bytes.len()).any(|start| {
                let mut decoder = Decoder::new(64, &bytes[start..], DecoderOptions::NONE);
                let instruction = decoder.decode();
                matches!(instruction.code(), Code::Call_rel32_64 | Code::Call_rm64)
                    && instruction.len() == bytes.len() - start
            });
            prop_assert_eq!(ends_with_call(&bytes), decoded);
        }
    }
}
