// Blocks of all sizes in musl's heap, counted: says `{"blocks":N,"bytes":N}` at each step, and waits
// for a line before the next. Nothing but what it counts is allocated after the first.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCKS = 60000, LARGEST = 400000 };

static char *blocks[BLOCKS];
static size_t sizes[BLOCKS];

static void step(void) {
    unsigned long count = 0, bytes = 0;
    for (int i = 0; i < BLOCKS; i++)
        if (blocks[i]) {
            count++;
            bytes += sizes[i];
        }
    char line[100];
    int length = snprintf(line, sizeof line, "{\"blocks\":%lu,\"bytes\":%lu}\n", count, bytes);
    if (write(1, line, length) != length || read(0, line, sizeof line) <= 0) _exit(0);
}

static unsigned long seed = 1;

static unsigned long random_below(unsigned long limit) {
    seed = seed * 6364136223846793005 + 1442695040888963407;
    return (seed >> 33) % limit;
}

int main(void) {
    free(malloc(1)); // There is a heap.
    step();
    for (int i = 0; i < BLOCKS; i++) {
        // Mostly small, some large, a few that are mapped alone.
        size_t limit = i % 1000 == 0 ? LARGEST : i % 20 == 0 ? 20000 : 600;
        sizes[i] = 1 + random_below(limit);
        blocks[i] = malloc(sizes[i]);
        memset(blocks[i], 1, sizes[i]);
    }
    step();
    for (int i = 0; i < BLOCKS; i++)
        if (random_below(3)) {
            free(blocks[i]);
            blocks[i] = NULL;
        }
    step();
    for (int i = 0; i < BLOCKS; i++) {
        free(blocks[i]);
        blocks[i] = NULL;
    }
    step();
}
