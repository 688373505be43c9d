// Holds memory for a moment, and gives it back: each line of input is one peak of the next size of
// the command line, in MiB, over before any sampler can have seen it.
#include "program.h"

static void spike(size_t bytes) {
    char *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) abort();
    for (size_t at = 0; at < bytes; at += 4096) ((volatile char *)memory)[at] = 1;
    munmap(memory, bytes);
}

int main(int argc, char **argv) {
    ready();
    for (int i = 1; i < argc; i++) {
        size_t bytes = strtoul(argv[i], NULL, 10) << 20;
        spike(bytes);
        say("{\"spike_bytes\": %zu}", bytes);
        send_line();
        wait_for_line();
    }
}
