//! Stacks as they come from interpreters of each kind. A native frame is written `module:function`,
//! with `*` where it is an entry; a Python frame by its name, with `*` where it is a run's oldest.

use proptest::prelude::*;

use super::*;

const PYTHON: &str = "libpython3.11.so.1.0";

fn native(text: &str) -> Vec<NativeFrames> {
    let frame = |word: &str| {
        let (place, is_entry) = word.strip_suffix('*').map_or((word, false), |it| (it, true));
        let (module, function) = place.split_once(':').unwrap_or((PYTHON, place));
        let (module, function) = (module.to_owned(), function.to_owned());
        let of_interpreter = module == PYTHON;
        let frame = Arc::new(Frame { function, module, ..Frame::default() });
        NativeFrames { frames: [frame].into(), is_entry, of_interpreter }
    };
    text.split_whitespace().map(frame).collect()
}

fn python(text: &str) -> Vec<PythonPlace> {
    let place = |word: &str| {
        let (function, is_oldest) = word.strip_suffix('*').map_or((word, false), |it| (it, true));
        let frame = Frame { function: function.to_owned(), ..Frame::default() };
        PythonPlace { frame: (function != "-").then(|| Arc::new(frame)), is_oldest }
    };
    text.split_whitespace().map(place).collect()
}

fn functions(merged: &Merged) -> String {
    let names: Vec<_> = merged.frames.iter().map(|frame| frame.function.as_str()).collect();
    names.join(" ")
}

#[track_caller]
fn check(native_frames: &str, python_frames: &str, expected: &str) {
    let merged = merge(&native(native_frames), &python(python_frames), Missing::default());
    assert_eq!(functions(&merged), expected);
    assert!(merged.in_place);
}

#[test]
fn the_interpreter_loop_gives_way_and_what_python_called_stays() {
    check(
        "numpy:alloc numpy:zeros cfunction_call eval* Py_RunMain libc:x",
        "load main <module>*",
        "alloc zeros cfunction_call load main <module> x",
    );
}

#[test]
fn the_start_of_the_process_and_of_threads_goes() {
    check(
        "resize eval* PyEval_EvalCode Py_RunMain main libc.so.6:__libc_start_main _start",
        "load <module>*",
        "resize load <module>",
    );
    check(
        "resize eval* thread_run libc.so.6:start_thread libc.so.6:clone3",
        "work run _bootstrap*",
        "resize work run _bootstrap",
    );
}

#[test]
fn the_program_that_only_starts_libpython_goes_too() {
    check(
        "resize eval* Py_BytesMain python3:main libc.so.6:__libc_start_main python3:_start",
        "load <module>*",
        "resize load <module>",
    );
    check("resize eval* Py_BytesMain libc.so.6:x stub:_start", "<module>*", "resize <module>");
}

#[test]
fn a_program_that_embeds_python_stays() {
    check(
        "resize eval* PyObject_Call uwsgi:handle uwsgi:main libc.so.6:__libc_start_main uwsgi:_start",
        "view*",
        "resize view handle main __libc_start_main _start",
    );
}

#[test]
fn extensions_that_call_back_stay_between_the_runs() {
    check(
        "alloc eval* PyObject_Call _sqlite3.so:trampoline libsqlite3.so.0:step call eval* run main",
        "callback* query <module>*",
        "alloc callback trampoline step query <module>",
    );
}

#[test]
fn each_python_frame_may_be_a_run_of_its_own() {
    check(
        "alloc eval* _PyFunction_Vectorcall eval* _PyFunction_Vectorcall eval* main",
        "load* get* <module>*",
        "alloc load get <module>",
    );
}

#[test]
fn places_without_code_are_skipped_and_keep_their_marks() {
    check("alloc eval* call eval* main", "load -* get -*", "alloc load get");
}

#[test]
fn the_rest_of_a_deep_python_stack_follows_what_is_missing() {
    let missing = Missing { native: Some("[truncated]"), python: false };
    let merged = merge(&native("alloc eval* call eval* call"), &python("f* g* h* i*"), missing);
    assert_eq!(functions(&merged), "alloc f g [truncated] h i");
    assert!(merged.in_place && !merged.ends_native);
}

#[test]
fn python_frames_follow_a_native_stack_that_was_cut_before_it_reached_them() {
    let missing = Missing { native: Some("[no unwind information]"), python: false };
    let merged = merge(&native("libc.so.6:strdup ext.so:make"), &python("f main*"), missing);
    assert_eq!(functions(&merged), "strdup make [no unwind information] f main");
    assert!(merged.in_place);
}

#[test]
fn runs_whose_python_frames_are_missing_go() {
    let missing = Missing { native: None, python: true };
    let merged = merge(&native("alloc eval* call eval* call main"), &python("f g"), missing);
    assert_eq!(functions(&merged), "alloc f g");
    assert!(merged.in_place && merged.ends_native);
}

#[test]
fn what_does_not_fit_together_is_shown_one_after_the_other() {
    for (native_frames, python_frames) in
        [("alloc eval* main", "f* g*"), ("alloc eval* eval* main", "f*"), ("alloc main", "f*")]
    {
        let python = python(python_frames);
        let merged = merge(&native(native_frames), &python, Missing::default());
        let expected = format!("{native_frames} {python_frames}").replace('*', "");
        assert_eq!(functions(&merged), expected);
        assert!(!merged.in_place);
    }
}

#[test]
fn marks_are_taken_off_user_addresses_only() {
    assert_eq!(unmarked(0x7f00_0000_1234), (0x7f00_0000_1234, false));
    assert_eq!(unmarked(0x7f00_0000_1234 | ENTRY_MARK), (0x7f00_0000_1234, true));
    assert_eq!(unmarked(0xffff_ffff_ff60_0000), (0xffff_ffff_ff60_0000, false));
}

fn any_native() -> impl Strategy<Value = Vec<NativeFrames>> {
    let words = prop::sample::select(vec!["eval*", "call", "numpy:zeros", "libc.so.6:qsort"]);
    prop::collection::vec(words, 0..24).prop_map(|words| native(&words.join(" ")))
}

fn any_python() -> impl Strategy<Value = Vec<PythonPlace>> {
    let words = prop::sample::select(vec!["f", "f*", "-", "-*"]);
    prop::collection::vec(words, 1..24).prop_map(|words| python(&words.join(" ")))
}

proptest! {
    #[test]
    fn no_python_frame_and_no_foreign_frame_is_lost(
        native in any_native(),
        python in any_python(),
        native_missing in any::<bool>(),
        python_missing in any::<bool>(),
    ) {
        let native_label = native_missing.then_some("[truncated]");
        let missing = Missing { native: native_label, python: python_missing };
        let merged = merge(&native, &python, missing);
        let count = |name: &str| merged.frames.iter().filter(|it| it.function == name).count();
        let named = python.iter().filter(|place| place.frame.is_some()).count();
        prop_assert_eq!(count("f"), named);
        let foreign = native.iter().filter(|it| it.frames[0].function == "zeros").count();
        prop_assert_eq!(count("zeros"), foreign);
        let before_python = native.iter().take_while(|one| !one.is_entry).count();
        if native.len() > before_python {
            let leaf = native[..before_python].iter().map(|one| &one.frames[0]);
            prop_assert!(leaf.eq(&merged.frames[..before_python]));
        }
    }
}
