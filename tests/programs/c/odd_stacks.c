// cflags: -fomit-frame-pointer
// Allocates below code that stacks pass through with difficulty: `odd_stacks`. One site per case,
// of different sizes. For x86-64.
#include "truth.h"

enum { IN_SIGNAL, IN_JIT, IN_JIT_WITHOUT_FP, IN_ASSEMBLY, IN_FRAMED_ASSEMBLY, IN_NEW_JIT, SITE_COUNT };

static struct site sites[SITE_COUNT] = {
    {.name = "site_in_signal", .function = MALLOC},
    {.name = "site_in_jit", .function = MALLOC},
    {.name = "site_in_jit_without_frame_pointer", .function = MALLOC},
    {.name = "site_in_assembly", .function = MALLOC},
    {.name = "site_in_framed_assembly", .function = MALLOC},
    {.name = "site_in_new_jit", .function = MALLOC},
};

static void take(int site, size_t size) {
    count(&calls[MALLOC], 1);
    obtained(&sites[site], malloc(size), size);
}

SITE static void site_in_signal(void) { take(IN_SIGNAL, 101); USED(0); }
SITE static void site_in_jit(void) { take(IN_JIT, 102); USED(0); }
SITE static void site_in_jit_without_frame_pointer(void) { take(IN_JIT_WITHOUT_FP, 103); USED(0); }
SITE static void site_in_assembly(void) { take(IN_ASSEMBLY, 104); USED(0); }
SITE static void site_in_framed_assembly(void) { take(IN_FRAMED_ASSEMBLY, 106); USED(0); }
SITE static void site_in_new_jit(void) { take(IN_NEW_JIT, 105); USED(0); }

SITE static void on_signal(int number) {
    site_in_signal();
    USED(number);
}

#ifdef __x86_64__
// Both call their argument, in no function that the unwind information describes; one keeps a frame
// pointer, as V8's built-in functions do.
__asm__(".pushsection .text\n"
        "  .balign 16\n"
        "  nop\n"
        "call_without_rules:\n"
        "  subq $8, %rsp\n"
        "  call *%rdi\n"
        "  addq $8, %rsp\n"
        "  ret\n"
        "call_with_frame_pointer:\n"
        "  pushq %rbp\n"
        "  movq %rsp, %rbp\n"
        "  call *%rdi\n"
        "  popq %rbp\n"
        "  ret\n"
        "  .balign 16\n"
        ".popsection\n");
void call_without_rules(void (*function)(void));
void call_with_frame_pointer(void (*function)(void));

typedef void caller(void (*)(void));

// push %rbp; mov %rsp, %rbp; call *%rdi; pop %rbp; ret
static const unsigned char with_frame_pointer[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
// push %rbp; xor %ebp, %ebp; call *%rdi; pop %rbp; ret
static const unsigned char without_frame_pointer[] = {0x55, 0x31, 0xed, 0xff, 0xd7, 0x5d, 0xc3};

static caller *generate(const unsigned char *code, size_t size) {
    unsigned char *memory =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) abort();
    memcpy(memory, code, size);
    if (mprotect(memory, 4096, PROT_READ | PROT_EXEC) != 0) abort();
    return (caller *)(uintptr_t)memory;
}

// A function with a frame pointer, so that the guess in the code that it calls leads on.
__attribute__((noinline, noclone, optimize("no-omit-frame-pointer"))) static void
run(caller *code, void (*function)(void)) {
    code(function);
    USED(0);
}

int main(void) {
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGUSR1, &action, NULL);
    caller *jit = generate(with_frame_pointer, sizeof with_frame_pointer);
    caller *jit_without = generate(without_frame_pointer, sizeof without_frame_pointer);
    ready();
    raise(SIGUSR1);
    run(jit, site_in_jit);
    run(jit_without, site_in_jit_without_frame_pointer);
    run(call_without_rules, site_in_assembly);
    run(call_with_frame_pointer, site_in_framed_assembly);
    caller *new_jit = generate(with_frame_pointer, sizeof with_frame_pointer);
    // Twice: the first call finds memtrace unprepared.
    run(new_jit, site_in_new_jit);
    sleep_ms(500);
    run(new_jit, site_in_new_jit);
    send_truth(sites, SITE_COUNT);
    wait_for_line();
    _exit(0);
}
#else
int main(void) { return 2; }
#endif
