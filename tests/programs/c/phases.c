// cflags: -O2
// Obtains and frees blocks as fast as it can in two phases that take turns, 700 ms of its CPU time each.
//
// Arguments: how large blocks are in the one and in the other. After `ready` it answers each line with
// `{"allocated_bytes": n}` of all so far, until its input ends.
#include "program.h"

enum { ROUNDS_A_LOOK = 1000, PHASE_NS = 700000000 };

static u64 allocated_bytes;

static u64 own_cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (u64)now.tv_sec * 1000000000u + (u64)now.tv_nsec;
}

SITE static void pass_on(u64 size) {
    char *block = malloc(size);
    USED(block);
    free(block);
}

static void phase(u64 size) {
    for (u64 until_ns = own_cpu_ns() + PHASE_NS; own_cpu_ns() < until_ns;) {
        for (int round = 0; round < ROUNDS_A_LOOK; round++) pass_on(size);
        __atomic_store_n(&allocated_bytes, allocated_bytes + ROUNDS_A_LOOK * size, __ATOMIC_RELAXED);
    }
}

static char **arguments;

static void *run(void *nothing) {
    (void)nothing;
    for (;;) {
        phase((u64)atol(arguments[1]));
        phase((u64)atol(arguments[2]));
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    arguments = argv;
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, NULL) != 0) return 3;
    ready();
    for (;;) {
        say("{\"allocated_bytes\": %lu}", __atomic_load_n(&allocated_bytes, __ATOMIC_RELAXED));
        send_line();
        wait_for_line();
    }
}
