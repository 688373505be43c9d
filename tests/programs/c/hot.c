// cflags: -O2
// Allocates and frees as fast as it can, and leaks a little: for budgets.
//
// Arguments: threads, how many rounds a thread makes in 4 milliseconds at most (0: as many as it can),
// and how many blocks are kept at once at each further line (0 if not given). After `ready` it answers
// each line with `{"rounds": n, "leaked": n}`, until its input ends.
#include "program.h"

enum { ROUNDS_PER_LEAK = 2000, LEAK_BYTES = 500, TIME_MS = 4, ROUND_BYTES = 64, KEPT_BYTES = 100, MOST_THREADS = 16 };

typedef struct {
    _Alignas(64) u64 rounds;
    u64 leaked;
} Done;
static Done done[MOST_THREADS];
static u64 rounds_per_time;

SITE static void leak_here(Done *mine) {
    char *block = malloc(LEAK_BYTES);
    USED(block);
    block[0] = 1;
    __atomic_store_n(&mine->leaked, mine->leaked + 1, __ATOMIC_RELAXED);
}

SITE static void keep_here(u64 blocks) {
    for (; blocks > 0; blocks--) {
        char *block = malloc(KEPT_BYTES);
        USED(block);
    }
}

SITE static void make_round(Done *mine) {
    char *block = malloc(ROUND_BYTES);
    USED(block);
    free(block);
    __atomic_store_n(&mine->rounds, mine->rounds + 1, __ATOMIC_RELAXED);
}

static void *work(void *argument) {
    Done *mine = argument;
    for (;;) {
        make_round(mine);
        if (mine->rounds % ROUNDS_PER_LEAK == 0) leak_here(mine);
        if (rounds_per_time && mine->rounds % rounds_per_time == 0) sleep_ms(TIME_MS);
    }
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 3 || argc > 4) return 2;
    u64 kept_a_line = argc > 3 ? (u64)atol(argv[3]) : 0;
    long threads = atol(argv[1]);
    rounds_per_time = (u64)atol(argv[2]);
    for (long i = 0; i < threads && i < MOST_THREADS; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, &done[i]) != 0) return 3;
    }
    ready();
    for (;;) {
        u64 rounds = 0, leaked = 0;
        for (int i = 0; i < MOST_THREADS; i++) {
            rounds += __atomic_load_n(&done[i].rounds, __ATOMIC_RELAXED);
            leaked += __atomic_load_n(&done[i].leaked, __ATOMIC_RELAXED);
        }
        say("{\"rounds\": %lu, \"leaked\": %lu}", rounds, leaked);
        send_line();
        wait_for_line();
        keep_here(kept_a_line);
    }
}
