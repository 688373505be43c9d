// Allocates below generated code whose names it writes to /tmp/perf-PID.map, as just-in-time
// compilers do: `jit_named`. The second function is compiled after the window has opened. For
// x86-64.
#include "truth.h"

static struct site sites[] = {{.name = "site_in_jit", .function = MALLOC}};

SITE static void site_in_jit(void) {
    count(&calls[MALLOC], 1);
    obtained(&sites[0], malloc(64), 64);
}

#ifdef __x86_64__
typedef void caller(void (*)(void));

// push %rbp; mov %rsp, %rbp; call *%rdi; pop %rbp; ret
static const unsigned char code[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};

static FILE *map;
static char map_path[64];

static caller *generate(const char *name) {
    unsigned char *memory =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) abort();
    memcpy(memory, code, sizeof code);
    if (mprotect(memory, 4096, PROT_READ | PROT_EXEC) != 0) abort();
    fprintf(map, "%lx %lx %s\n", (unsigned long)memory, (unsigned long)sizeof code, name);
    fflush(map);
    return (caller *)(uintptr_t)memory;
}

int main(void) {
    snprintf(map_path, sizeof map_path, "/tmp/perf-%d.map", (int)getpid());
    map = fopen(map_path, "w");
    if (map == NULL) return 2;
    caller *early = generate("jit::early(int)");
    ready();
    early(site_in_jit);
    // Each is called until memtrace knows that there is code.
    caller *late = generate("jit::late");
    for (int i = 0; i < 3; i++) {
        late(site_in_jit);
        sleep_ms(200);
    }
    send_truth(sites, 1);
    wait_for_line();
    remove(map_path);
    _exit(0);
}
#else
int main(void) { return 2; }
#endif
