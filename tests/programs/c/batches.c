// cflags: -O2
// Obtains blocks, frees them much later and many at once, as a collector of garbage does, and keeps one of a
// size of its own now and then.
//
// Arguments: how much work there is between two blocks, and of how many one is kept. After `ready` it answers
// each line with `{"allocated_bytes": n, "kept_bytes": n, "held_bytes": n}` of all so far, until its input ends;
// what is held will be freed.
#include "program.h"

enum { BATCH = 2000, HELD_BYTES = 10000, KEPT_BYTES = 20000 };

static u64 allocated_bytes, kept_bytes, held_bytes;
static u64 work_between, blocks_a_kept_one;

SITE static char *pass_on(void) {
    char *block = malloc(HELD_BYTES);
    USED(block);
    block[0] = 1;
    return block;
}

SITE static void keep_here(void) {
    char *block = malloc(KEPT_BYTES);
    USED(block);
    block[0] = 1;
}

static void add(u64 *sum, u64 bytes) { __atomic_store_n(sum, *sum + bytes, __ATOMIC_RELAXED); }

static void *work(void *argument) {
    static char *held[BATCH];
    (void)argument;
    for (u64 round = 1;; round++) {
        u64 place = round % BATCH;
        if (place == 0) {
            for (int block = 0; block < BATCH; block++) {
                free(held[block]);
                held[block] = NULL;
            }
            __atomic_store_n(&held_bytes, 0, __ATOMIC_RELAXED);
        }
        held[place] = pass_on();
        add(&held_bytes, HELD_BYTES);
        add(&allocated_bytes, HELD_BYTES);
        if (round % blocks_a_kept_one == 0) {
            keep_here();
            add(&kept_bytes, KEPT_BYTES);
            add(&allocated_bytes, KEPT_BYTES);
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
