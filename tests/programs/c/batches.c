// cflags: -O2
// Obtains blocks, frees them much later and many at once, as a collector of garbage does, and keeps one of a
// size of its own now and then. Arguments and answers: keeper.h.
#include "keeper.h"

enum { BATCH = 2000, HELD_BYTES = 10000, KEPT_BYTES = 20000 };

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
        held[place] = pass_on(HELD_BYTES);
        add(&held_bytes, HELD_BYTES);
        add(&allocated_bytes, HELD_BYTES);
        go_on(round, KEPT_BYTES);
    }
    return NULL;
}

int main(int argc, char **argv) { return answer_while(argc, argv, work); }
