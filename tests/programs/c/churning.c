// cflags: -O2
// Replaces blocks of many sizes in random order, with some work in between, and keeps one now and then:
// what is kept takes addresses that others had. Arguments and answers: keeper.h.
#include "keeper.h"

enum { HELD = 4096, MOST_BYTES = 512, LEAST_BYTES = 16 };

static u64 next_random(u64 *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

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
        go_on(round, size);
    }
    return NULL;
}

int main(int argc, char **argv) { return answer_while(argc, argv, work); }
