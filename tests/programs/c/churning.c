// cflags: -O2
// Replaces blocks of many sizes in random order, with some work in between, and keeps one now and then:
// what is kept takes addresses that others had.
//
// Arguments: how much work there is between two blocks, and of how many one is kept. After `ready` it answers
// each line with `{"allocated_bytes": n, "kept_bytes": n, "held_bytes": n}` of all so far, until its input ends;
// what is held will be replaced.
#include "program.h"

enum { HELD = 4096, MOST_BYTES = 512, LEAST_BYTES = 16 };

static u64 allocated_bytes, kept_bytes, held_bytes;
static u64 work_between, blocks_a_kept_one;

static u64 next_random(u64 *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

SITE static char *pass_on(u64 size) {
    char *block = malloc(size);
    USED(block);
    block[0] = 1;
    return block;
}

SITE static void keep_here(u64 size) {
    char *block = malloc(size);
    USED(block);
    block[0] = 1;
}

static void add(u64 *sum, u64 bytes) { __atomic_store_n(sum, *sum + bytes, __ATOMIC_RELAXED); }

static void *work(void *argument) {
    static char *held[HELD];
    static u64 sizes[HELD];
    u64 state = 88172645463325252ul;
    (void)argument;
    for (u64 round = 1;; round++) {
        u64 place = next_random(&state) % HELD;
        u64 size = LEAST_BYTES + next_random(&state) % MOST_BYTES;
        free(held[place]);
        held[place] = pass_on(size);
        add(&held_bytes, size - sizes[place]);
        sizes[place] = size;
        add(&allocated_bytes, size);
        if (round % blocks_a_kept_one == 0) {
            keep_here(size);
            add(&kept_bytes, size);
            add(&allocated_bytes, size);
        }
        for (volatile u64 i = 0; i < work_between; i++) {
        }
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    work_between = (u64)atol(argv[1]);
    blocks_a_kept_one = (u64)atol(argv[2]);
    pthread_t thread;
    if (pthread_create(&thread, NULL, work, NULL) != 0) return 3;
    ready();
    for (;;) {
        say("{\"allocated_bytes\": %lu, \"kept_bytes\": %lu, \"held_bytes\": %lu}",
            __atomic_load_n(&allocated_bytes, __ATOMIC_RELAXED),
            __atomic_load_n(&kept_bytes, __ATOMIC_RELAXED),
            __atomic_load_n(&held_bytes, __ATOMIC_RELAXED));
        send_line();
        wait_for_line();
    }
}
