//! On the bytes of real allocators (tests/data/functions), and on arbitrary ones. The expected
//! offsets were read off `objdump -d` of the libraries, not off this code.

use proptest::prelude::*;

use super::*;
use crate::model::AllocFn;

const GLIBC: &str = include_str!("../../../../tests/data/functions/glibc-2.36-debian12.txt");
const MUSL: &str = include_str!("../../../../tests/data/functions/musl-1.2.3-debian12.txt");
const JEMALLOC: &str = include_str!("../../../../tests/data/functions/jemalloc-5.3.0-debian12.txt");
const TCMALLOC: &str = include_str!("../../../../tests/data/functions/tcmalloc-2.10-debian12.txt");
const MIMALLOC: &str = include_str!("../../../../tests/data/functions/mimalloc-2.0.9-debian12.txt");
const CET: &str = include_str!("../../../../tests/data/functions/tbbmalloc-2023.2.0-cet-pypi.txt");

const LINUX_6_1: KernelVersion = KernelVersion::new(6, 1);
const LINUX_6_18: KernelVersion = KernelVersion::new(6, 18);
const EMULATED: SiteCost = SiteCost::Emulated;
const STEPPED: SiteCost = SiteCost::Stepped;

/// (name, address, bytes) of every function of a fixture.
fn functions(fixture: &str) -> Vec<(&str, u64, Vec<u8>)> {
    let lines = fixture.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let [name, address, code] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            (name, u64::from_str_radix(&address[2..], 16).unwrap(), unhex(code))
        })
        .collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
        .collect()
}

fn shape_of(name: &str) -> CallShape {
    let name = name.trim_end_matches("64");
    AllocFn::ALL.into_iter().find(|function| function.name() == name).unwrap().shape()
}

fn whole(address: u64, body: &[u8]) -> FunctionCode<'_> {
    FunctionCode { address, body, is_whole: true }
}

fn chosen(code: &[u8], shape: CallShape) -> Result<(u64, SiteCost), SiteError> {
    choose(Machine::X86_64, whole(0x1000, code), shape, LINUX_6_18)
        .map(|site| (site.offset, site.cost))
}

/// Asserts offset, cost and instruction of every function of a fixture, on old and new kernels.
fn check(fixture: &str, expected: &[(&str, u64, SiteCost, &str)]) {
    for kernel in [LINUX_6_1, LINUX_6_18] {
        let found: Vec<_> = functions(fixture)
            .into_iter()
            .map(|(name, address, body)| {
                let code = whole(address, &body);
                let site = choose(Machine::X86_64, code, shape_of(name), kernel).unwrap();
                (name, Site { arguments: ArgumentPlaces::USUAL, ..site })
            })
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|&(name, offset, cost, code)| {
                let code = unhex(code);
                (name, Site { offset, cost, code, arguments: ArgumentPlaces::USUAL })
            })
            .collect();
        assert_eq!(found, expected, "on {kernel}");
    }
}

#[test]
fn glibc_of_debian_12_is_probed_at_its_pushes_and_null_checks() {
    check(
        GLIBC,
        &[
            ("malloc", 0, EMULATED, "41 54"),
            ("calloc", 0, EMULATED, "41 55"),
            ("realloc", 0, EMULATED, "41 57"),
            // mov %rsi,%rax; mul %rdx, which is the third argument.
            ("reallocarray", 0, STEPPED, "48 89 f0"),
            // test %rdi,%rdi is crossed, je is the site.
            ("free", 3, EMULATED, "0f 84 bf 00 00 00"),
            // cmpb of a global is crossed.
            ("memalign", 7, EMULATED, "74 07"),
            ("aligned_alloc", 7, EMULATED, "74 07"),
            ("posix_memalign", 7, EMULATED, "41 54"),
            ("valloc", 7, EMULATED, "53"),
            ("pvalloc", 7, EMULATED, "53"),
            // mov %ecx,%r10d and test %r9d are crossed.
            ("mmap", 10, EMULATED, "75 14"),
            ("mmap64", 10, EMULATED, "75 14"),
            // mov $11,%eax; syscall.
            ("munmap", 0, STEPPED, "b8 0b 00 00 00"),
            // sub $0x58,%rsp moves the return address away from (%rsp).
            ("mremap", 0, STEPPED, "48 83 ec 58"),
            ("brk", 0, STEPPED, "b8 0c 00 00 00"),
            ("sbrk", 0, EMULATED, "41 54"),
        ],
    );
}

#[test]
fn musl_is_probed_at_its_tail_jumps() {
    check(
        MUSL,
        &[
            ("malloc", 0, EMULATED, "e9 6b 19 00 00"),
            ("calloc", 0, EMULATED, "41 54"),
            ("realloc", 0, EMULATED, "e9 fb fa ff ff"),
            // mov %rdx,%rcx; test; je.
            ("reallocarray", 6, EMULATED, "74 08"),
            ("free", 0, EMULATED, "e9 bb 0a 00 00"),
            ("memalign", 0, EMULATED, "e9 bb b0 fe ff"),
            ("aligned_alloc", 0, EMULATED, "55"),
            ("posix_memalign", 0, EMULATED, "53"),
            // mov %rdi,%rsi is fine, mov $0x1000,%edi overwrites the size.
            ("valloc", 8, EMULATED, "e9 a3 49 ff ff"),
            ("mmap", 0, EMULATED, "41 54"),
            ("mmap64", 0, EMULATED, "41 54"),
            ("munmap", 0, EMULATED, "55"),
            ("mremap", 0, EMULATED, "55"),
            ("brk", 0, STEPPED, "48 83 ec 08"),
            ("sbrk", 3, EMULATED, "75 0b"),
        ],
    );
}

#[test]
fn jemalloc_is_probed_at_its_first_branches() {
    check(
        JEMALLOC,
        &[
            // cmp $0x1000,%rdi; ja.
            ("malloc", 7, EMULATED, "0f 87 93 00 00 00"),
            // Nine instructions that only read the block's address.
            ("free", 48, EMULATED, "0f 85 8a 00 00 00"),
            ("aligned_alloc", 0, EMULATED, "41 57"),
            ("posix_memalign", 0, EMULATED, "41 57"),
        ],
    );
}

#[test]
fn tcmalloc_is_probed_at_its_hook_checks() {
    check(
        TCMALLOC,
        &[
            ("malloc", 10, EMULATED, "75 75"),
            ("calloc", 0, EMULATED, "41 55"),
            ("free", 10, EMULATED, "0f 85 90 00 00 00"),
            // mov %rdi,%r8; cmp; ja.
            ("memalign", 10, EMULATED, "0f 87 e8 00 00 00"),
            ("posix_memalign", 11, EMULATED, "75 2b"),
            ("mmap", 0, EMULATED, "41 57"),
            ("mmap64", 0, EMULATED, "41 57"),
        ],
    );
}

#[test]
fn mimalloc_is_probed_where_its_arguments_have_been_moved() {
    check(
        MIMALLOC,
        &[
            // mov %rdi,%rsi; mov (heap),%rdi: the size is in %rsi at the comparison with 1024.
            ("malloc", 21, EMULATED, "77 29"),
            // Before mul: the count is in %rax.
            ("calloc", 18, EMULATED, "74 08"),
            ("realloc", 20, EMULATED, "e9 f7 4e ff ff"),
            ("reallocarray", 0, EMULATED, "e9 5b 5c ff ff"),
            ("free", 6, EMULATED, "74 5d"),
            ("memalign", 0, EMULATED, "e9 fb 5a ff ff"),
            ("aligned_alloc", 0, EMULATED, "e9 eb 59 ff ff"),
            ("posix_memalign", 0, EMULATED, "e9 6b 5c ff ff"),
            ("valloc", 0, EMULATED, "e9 7b 58 ff ff"),
            ("pvalloc", 0, EMULATED, "e9 ab 5b ff ff"),
        ],
    );
}

#[test]
fn arguments_are_found_where_mimalloc_puts_them() {
    let places = |name: &str| {
        let all = functions(MIMALLOC);
        let (_, address, body) = all.iter().find(|(of, ..)| *of == name).unwrap();
        let shape = shape_of(name);
        let site = choose(Machine::X86_64, whole(*address, body), shape, LINUX_6_18).unwrap();
        [0, 1, 2].map(|index| site.arguments.place(index))
    };
    // Numbers of registers in instructions, plus one: 7 is %rsi, 1 %rax, 3 %rdx.
    assert_eq!(places("malloc"), [7, 0, 0]);
    assert_eq!(places("calloc"), [1, 0, 0]);
    assert_eq!(places("realloc"), [7, 3, 0]);
    assert_eq!(places("free"), [0, 0, 0]);
}

#[test]
fn an_argument_that_is_nowhere_or_in_r15_is_not_crossed_over() {
    // mov %rdi,%r15; xor %edi,%edi; push %rbx
    let in_r15 = [0x49, 0x89, 0xff, 0x31, 0xff, 0x53];
    assert_eq!(chosen(&in_r15, CallShape::Size), Ok((0, STEPPED)));
    // mov %rdi,%r14; xor %edi,%edi; push %rbx
    let in_r14 = [0x49, 0x89, 0xfe, 0x31, 0xff, 0x53];
    assert_eq!(chosen(&in_r14, CallShape::Size), Ok((5, EMULATED)));
    // mov %edi,%eax; xor %edi,%edi; push: half of it is lost.
    let half = [0x89, 0xf8, 0x31, 0xff, 0x53];
    assert_eq!(chosen(&half, CallShape::Size), Ok((0, STEPPED)));
}

#[test]
fn a_cet_build_is_probed_behind_its_endbr64() {
    check(
        CET,
        &[
            ("malloc", 4, EMULATED, "50"),
            ("calloc", 4, EMULATED, "50"),
            ("realloc", 4, EMULATED, "41 56"),
            ("free", 4, EMULATED, "50"),
            ("memalign", 4, EMULATED, "50"),
            ("aligned_alloc", 4, EMULATED, "50"),
            ("posix_memalign", 4, EMULATED, "50"),
            ("valloc", 4, EMULATED, "53"),
            ("pvalloc", 4, EMULATED, "53"),
        ],
    );
}

#[test]
fn a_function_of_unknown_length_is_probed_at_its_entry() {
    let (_, address, body) = functions(GLIBC).remove(4);
    let code = FunctionCode { address, body: &body[..16], is_whole: false };
    let site = choose(Machine::X86_64, code, CallShape::Block, LINUX_6_18).unwrap();
    assert_eq!((site.offset, site.cost), (0, STEPPED));
}

#[test]
fn a_jump_back_onto_the_site_makes_the_entry_the_site() {
    // endbr64; push %rbx; dec %edi; jne TARGET; pop %rbx; ret
    let back_to = |target: u8| {
        let displacement = target.wrapping_sub(9);
        unhex(&format!("f3 0f 1e fa 53 ff cf 75 {displacement:02x} 5b c3"))
    };
    assert_eq!(chosen(&back_to(5), CallShape::Size), Ok((4, EMULATED)));
    assert_eq!(chosen(&back_to(4), CallShape::Size), Ok((0, STEPPED)));
    assert_eq!(chosen(&back_to(2), CallShape::Size), Ok((0, STEPPED)));
    // A loop to the entry itself hits the entry as well: nothing is gained by staying there.
    assert_eq!(chosen(&back_to(0), CallShape::Size), Ok((4, EMULATED)));
}

#[test]
fn a_function_that_does_not_decode_to_its_end_is_probed_at_its_entry() {
    assert_eq!(chosen(&unhex("48 85 ff 74 01 c3 06"), CallShape::Block), Ok((0, STEPPED)));
    assert_eq!(chosen(&unhex("48 85 ff 74 01 c3 c3"), CallShape::Block), Ok((3, EMULATED)));
}

#[test]
fn arguments_count_by_the_shape() {
    // mov $1,%esi; push %rax; ret
    let code = unhex("be 01 00 00 00 50 c3");
    assert_eq!(chosen(&code, CallShape::Size), Ok((5, EMULATED)));
    assert_eq!(chosen(&code, CallShape::CountSize), Ok((0, STEPPED)));
    // xchg %r8d,%eax; push; ret: the fifth argument of mmap.
    let code = unhex("41 90 50 c3");
    assert_eq!(chosen(&code, CallShape::Munmap), Ok((2, EMULATED)));
    assert_eq!(chosen(&code, CallShape::Mmap), Ok((0, STEPPED)));
    // Writing a part of a register, or only perhaps, is writing it: mov $1,%dil; cmove %rax,%rdi.
    assert_eq!(chosen(&unhex("40 b7 01 50 c3"), CallShape::Size), Ok((0, STEPPED)));
    assert_eq!(chosen(&unhex("48 0f 44 f8 50 c3"), CallShape::Size), Ok((0, STEPPED)));
}

#[test]
fn the_stack_pointer_and_the_control_flow_are_never_crossed() {
    for code in [
        "48 83 ec 08 50 c3",    // sub $8,%rsp
        "ff 35 00 00 00 00 50", // push of memory: not emulated, moves rsp
        "58 50 c3",             // pop
        "c9 50 c3",             // leave
        "c3 50",                // ret
        "0f 05 50 c3",          // syscall
        "ff d0 50 c3",          // call *%rax
        "ff e0 50 c3",          // jmp *%rax
        "e3 00 50 c3",          // jrcxz, which the kernel does not emulate
    ] {
        let found = chosen(&unhex(code), CallShape::Size);
        assert!(found.is_err() || found == Ok((0, STEPPED)), "{code}: {found:?}");
    }
}

#[test]
fn nothing_farther_than_the_reach_is_chosen() {
    let padded = |nops: usize| [b"\x89\xc0".repeat(nops), vec![0x50, 0xc3]].concat();
    assert_eq!(chosen(&padded(32), CallShape::Size), Ok((64, EMULATED)));
    assert_eq!(chosen(&padded(33), CallShape::Size), Ok((0, STEPPED)));
}

#[test]
fn what_the_kernel_refuses_is_never_a_site() {
    for code in [
        "66 e9 00 00 00 00", // operand-size branch
        "2e 74 00 c3",       // branch hint
        "3e 48 89 f8 c3",    // ds:
        "f0 48 01 07 c3",    // lock
        "cc c3",             // int3
        "f4 c3",             // hlt
        "ec c3",             // in
        "6e c3",             // outs
        "fa c3",             // cli
        "0f 0b c3",          // ud2
        "66 0f 38 00 c0 c3", // a three-byte opcode
        "62 f1 7c 48 28 c0", // EVEX
    ] {
        let error = chosen(&unhex(code), CallShape::Size).unwrap_err();
        assert!(matches!(error, SiteError::Refused { .. }), "{code}: {error}");
    }
    // A refused entry does not matter when there is a site behind it.
    assert_eq!(chosen(&unhex("3e 48 89 f8 50 c3"), CallShape::Size), Ok((4, EMULATED)));
}

#[test]
fn bytes_that_are_no_code_are_an_error() {
    for code in [&b""[..], b"\x06", b"\x48"] {
        assert!(matches!(chosen(code, CallShape::Size), Err(SiteError::NotCode { .. })));
    }
}

#[test]
fn kernels_emulate_by_their_version() {
    let cost = |code: &str, kernel| {
        at_entry(Machine::X86_64, whole(0, &unhex(code)), kernel).map(|site| site.cost).unwrap()
    };
    let nop5 = "0f 1f 44 00 00";
    let odd_nop = "0f 1f 44 00 08";
    for (code, since) in [
        ("90", KernelVersion::new(3, 16)),
        ("55", KernelVersion::new(4, 16)),
        ("41 57", KernelVersion::new(4, 16)),
        (nop5, KernelVersion::new(6, 18)),
        ("66 0f 1f 44 00 00", KernelVersion::new(6, 18)),
        (odd_nop, KernelVersion::new(6, 19)),
    ] {
        assert_eq!(cost(code, since), EMULATED, "{code}");
        let before = KernelVersion { minor: since.minor - 1, ..since };
        let expected = if code == "90" { EMULATED } else { STEPPED };
        assert_eq!(cost(code, before), expected, "{code}");
    }
    let newest = KernelVersion::new(7, 0);
    for code in ["f3 90", "41 90", "f3 0f 1e fa", "0f 1e fa", "ff f0", "66 50", "48 50"] {
        assert_eq!(cost(code, newest), STEPPED, "{code}");
    }
}

#[test]
fn jumps_from_outside_are_found_wherever_they_are() {
    let mut code = vec![0; 64];
    let windows = [0x1001..=0x1003, 0x1010..=0x1010];
    let entered = |code: &[u8]| entered_windows(Machine::X86_64, 0x2000, code, &windows);
    assert_eq!(entered(&code), [false, false]);
    // jmp 0x1010 at 0x2005.
    code[5] = 0xe9;
    code[6..10].copy_from_slice(&(0x1010i32 - 0x200a).to_le_bytes());
    assert_eq!(entered(&code), [false, true]);
    // jne 0x1003 at 0x2014.
    code[0x14..0x16].copy_from_slice(&[0x0f, 0x85]);
    code[0x16..0x1a].copy_from_slice(&(0x1003i32 - 0x201a).to_le_bytes());
    assert_eq!(entered(&code), [true, true]);
    // Without its 0f the byte is another instruction.
    code[0x14] = 0;
    assert_eq!(entered(&code), [false, true]);
    assert_eq!(entered(&code[..4]), [false, false]);
}

#[test]
fn aarch64_is_probed_at_its_entry() {
    let at = |word: u32, kernel| {
        let bytes = word.to_le_bytes();
        choose(Machine::Aarch64, whole(0x1000, &bytes), CallShape::Size, kernel)
            .map(|site| (site.offset, site.cost))
    };
    for (word, cost) in [
        (0xa9be_7bfd_u32, STEPPED), // stp x29, x30, [sp, #-32]!
        (0xd503_245f, STEPPED),     // bti c
        (0xd503_233f, STEPPED),     // paciasp
        (0xd100_83ff, STEPPED),     // sub sp, sp, #32
        (0x1400_0010, EMULATED),    // b
        (0xb400_0060, EMULATED),    // cbz x0
        (0x9000_0010, EMULATED),    // adrp x16
        (0xd61f_0220, EMULATED),    // br x17
        (0xd503_201f, EMULATED),    // nop
    ] {
        assert_eq!(at(word, LINUX_6_18), Ok((0, cost)), "{word:08x}");
    }
    assert_eq!(at(0xd503_201f, LINUX_6_1), Ok((0, STEPPED)));
    // svc, brk, mrs tpidr_el0, msr, ldr literal, ldxr, eret
    for word in [
        0xd400_0001_u32,
        0xd420_0000,
        0xd53b_d040,
        0xd51b_d040,
        0x5800_0040,
        0xc85f_7c00,
        0xd69f_03e0,
    ] {
        assert!(matches!(at(word, LINUX_6_18), Err(SiteError::Refused { .. })), "{word:08x}");
    }
    let odd = choose(Machine::Aarch64, whole(0x1002, &[0; 4]), CallShape::Size, LINUX_6_18);
    assert!(matches!(odd, Err(SiteError::NotCode { .. })));
}

/// Bytes that decode often: pieces of real code and random ones.
fn code() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop_oneof![
        Just(vec![0xf3, 0x0f, 0x1e, 0xfa]),
        Just(vec![0x48, 0x85, 0xff]),
        Just(vec![0x48, 0x89, 0xf8]),
        Just(vec![0x80, 0x3d, 1, 2, 3, 4, 0]),
        (0u8..16).prop_map(|condition| vec![0x70 | condition, 5]),
        any::<u8>().prop_map(|back| vec![0x75, back]),
        (0u8..8).prop_map(|register| vec![0x50 | register]),
        any::<[u8; 3]>().prop_map(|bytes| bytes.to_vec()),
    ];
    prop::collection::vec(pieces, 0..40).prop_map(|pieces| pieces.concat())
}

fn shape() -> impl Strategy<Value = CallShape> {
    prop::sample::select(AllocFn::ALL.map(AllocFn::shape).to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_site_is_an_instruction_that_a_linear_decode_arrives_at(
        code in code(), shape in shape(), minor in 0u32..20, is_whole in any::<bool>(),
        address in any::<u64>(), machine in prop::sample::select(vec![Machine::X86_64, Machine::Aarch64]),
    ) {
        let code = FunctionCode { address, body: &code, is_whole };
        let Ok(site) = choose(machine, code, shape, KernelVersion::new(6, minor)) else {
            return Ok(());
        };
        prop_assert!(site.offset as usize <= REACH_BYTES);
        prop_assert_eq!(instruction_at(machine, code, site.offset), Some(&site.code[..]));
        let at = site.offset as usize;
        prop_assert_eq!(&code.body[at..at + site.code.len()], &site.code[..]);
        if machine == Machine::X86_64 {
            prop_assert!(boundaries(code.body).contains(&at));
        }
        if !is_whole {
            prop_assert_eq!(site.offset, 0);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in any::<Vec<u8>>(), shape in shape(), start in any::<u64>()) {
        let code = whole(start, &body);
        let _ = choose(Machine::X86_64, code, shape, LINUX_6_18);
        let _ = choose(Machine::Aarch64, code, shape, LINUX_6_18);
        let _ = instruction_at(Machine::X86_64, code, u64::MAX);
        let _ = instruction_at(Machine::Aarch64, code, u64::MAX);
        let windows = [start..=start, 0..=u64::MAX];
        let _ = entered_windows(Machine::X86_64, start, &body, &windows);
    }
}

/// Offsets by lengths that iced-x86 gives one instruction at a time.
fn boundaries(body: &[u8]) -> Vec<usize> {
    let mut at = 0;
    let mut found = Vec::new();
    while at < body.len() {
        found.push(at);
        let options = iced_x86::DecoderOptions::NONE;
        at += iced_x86::Decoder::new(64, &body[at..], options).decode().len().max(1);
    }
    found
}
