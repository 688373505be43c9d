// cflags: -m32 -nostdlib -static -ffreestanding -fno-pie -no-pie -fno-stack-protector
// A 32-bit x86 program, which needs no 32-bit libc: prints `ready` and sleeps for ever.
static int call(int number, int a, int b, int c) {
    int result = number;
    __asm__ volatile("int $0x80" : "+a"(result) : "b"(a), "c"(b), "d"(c) : "memory");
    return result;
}

enum { WRITE = 4, NANOSLEEP = 162 };

void _start(void) {
    static const char line[] = "ready {\"pid\": 0, \"malloc\": 0, \"free\": 0, \"realloc\": 0}\n";
    call(WRITE, 1, (int)line, sizeof line - 1);
    for (;;) {
        int second[2] = {1, 0};
        call(NANOSLEEP, (int)second, 0, 0);
    }
}
