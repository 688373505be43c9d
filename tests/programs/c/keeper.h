// What programs share that pass blocks on and keep one now and then, on a thread of their own.
//
// Arguments: how much work there is between two blocks, and of how many one is kept. After `ready` they answer
// each line with `{"allocated_bytes": n, "kept_bytes": n, "held_bytes": n}` of all so far, until their input ends;
// what is held will be freed.
#pragma once
#include "program.h"

static u64 allocated_bytes, kept_bytes, held_bytes;
static u64 work_between, blocks_a_kept_one;

static void add(u64 *sum, u64 bytes) { __atomic_store_n(sum, *sum + bytes, __ATOMIC_RELAXED); }

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

// To be called for each block that was passed on: keeps one of `size` if it is time to.
static void go_on(u64 round, u64 size) {
    if (round % blocks_a_kept_one == 0) {
        keep_here(size);
        add(&kept_bytes, size);
        add(&allocated_bytes, size);
    }
    for (volatile u64 i = 0; i < work_between; i++) {
    }
}

static int answer_while(int argc, char **argv, void *(*work)(void *)) {
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
