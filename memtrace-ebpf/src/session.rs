//! Session uprobes (Linux 6.13): one program at a function's entry and at its return, and no return
//! probe where the entry wants none. Else the program is an entry probe like others.

use aya_ebpf::{
    EbpfContext as _,
    helpers::generated::bpf_get_func_ip,
    programs::{ProbeContext, RetProbeContext},
};

use crate::{
    entry::{self, cookie},
    leave::leave_any,
};

/// What all programs return but those of a session's entry.
const DONE: u32 = 0;

/// What the entry of a session returns when the return is not wanted.
pub const RETURN_UNWANTED: u32 = 1;

/// Does what the entry or the return asks for.
#[inline(always)]
pub fn run(ctx: &ProbeContext) -> u32 {
    let cookie = cookie(ctx);
    if cookie.is_session() && is_return(ctx) {
        leave_any(&RetProbeContext::new(ctx.as_ptr()), cookie);
        return DONE;
    }
    // An exception cannot pass a return address that was replaced.
    let is_wanted = entry::enter(ctx, cookie).is_some() && !cookie.is_throwing();
    // Anything but 0 removes a probe that is no session from the process (up to 6.12).
    if cookie.is_session() && !is_wanted { RETURN_UNWANTED } else { DONE }
}

/// Whether the program runs at a return. At an entry the instruction pointer is that of the probe,
/// which is what the kernel calls the function's; at a return it is where the function returns to.
/// (`bpf_session_is_return` would tell the same; calling it takes the kernel's BTF.)
#[inline(always)]
fn is_return(ctx: &ProbeContext) -> bool {
    // SAFETY: the context is the kernel's own, and its registers are valid.
    unsafe { (*ctx.regs).rip != bpf_get_func_ip(ctx.as_ptr()) }
}
