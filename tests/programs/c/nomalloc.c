// cflags: -nostdlib -nostartfiles -static -fno-stack-protector
// A program without libc, and so without an allocator: prints `ready` and sleeps for ever.
static long call(long number, long a, long b, long c) {
    long result = number;
#if defined(__x86_64__)
    __asm__ volatile("syscall" : "+a"(result) : "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number, x0 __asm__("x0") = a, x1 __asm__("x1") = b,
                  x2 __asm__("x2") = c;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2) : "memory");
    result = x0;
#endif
    return result;
}

#if defined(__x86_64__)
enum { WRITE = 1, NANOSLEEP = 35 };
#elif defined(__aarch64__)
enum { WRITE = 64, NANOSLEEP = 101 };
#endif

void _start(void) {
    static const char line[] = "ready {\"pid\": 0, \"malloc\": 0, \"free\": 0, \"realloc\": 0}\n";
    call(WRITE, 1, (long)line, sizeof line - 1);
    for (;;) {
        long second[2] = {1, 0};
        call(NANOSLEEP, (long)second, 0, 0);
    }
}
