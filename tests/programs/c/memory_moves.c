// Grows in one way and says so: `memory_moves leak|cache|shmem|files|burst|nothing`. Each takes about three
// seconds and touches all that it takes.
#include "program.h"
#include <fcntl.h>

#define STEPS 10
#define STEP_BYTES (8u << 20)

static char *kept[64];

SITE static char *site_take(size_t bytes) {
    char *block = malloc(bytes);
    memset(block, 1, bytes);
    return block;
}

// A model at a time, and none is let go.
SITE static void leak(void) {
    for (int step = 0; step < STEPS; step++) {
        kept[step] = site_take(STEP_BYTES);
        sleep_ms(300);
    }
}

// Fills up, and empties again to a small rest.
SITE static void cache(void) {
    for (int entry = 0; entry < 60; entry++) {
        kept[entry] = site_take(1 << 20);
        sleep_ms(25);
    }
    for (int entry = 59; entry >= 8; entry--) {
        free(kept[entry]);
        sleep_ms(25);
    }
}

SITE static void shmem(void) {
    int file = memfd_create("memory_moves", 0);
    size_t bytes = STEPS * (size_t)STEP_BYTES;
    if (ftruncate(file, (off_t)bytes) != 0) _exit(4);
    char *shared = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    for (int step = 0; step < STEPS; step++) {
        memset(shared + step * (size_t)STEP_BYTES, 1, STEP_BYTES);
        sleep_ms(300);
    }
}

// Reads a file through a mapping, as a database does.
SITE static void files(void) {
    char path[] = "memory_moves.XXXXXX";
    int file = mkstemp(path);
    size_t bytes = STEPS * (size_t)STEP_BYTES;
    if (file < 0 || unlink(path) != 0 || posix_fallocate(file, 0, (off_t)bytes) != 0) _exit(4);
    volatile char *mapped = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
    for (size_t at = 0; at < bytes; at += 4096) {
        (void)mapped[at];
        if (at % STEP_BYTES == 0) sleep_ms(300);
    }
}

#define BURST 40000
#define BURST_THREADS 4

static char *burst_blocks[BURST];

static void *free_a_part(void *first) {
    for (size_t i = (size_t)first; i < BURST; i += BURST_THREADS) free(burst_blocks[i]);
    return NULL;
}

// Allocates at leisure, and frees all of it at once, faster than a small ring can take.
SITE static void burst(void) {
    for (size_t i = 0; i < BURST; i++) {
        burst_blocks[i] = malloc(100);
        if (i % 200 == 0) sleep_ms(10);
    }
    pthread_t threads[BURST_THREADS];
    for (size_t i = 0; i < BURST_THREADS; i++)
        if (pthread_create(&threads[i], NULL, free_a_part, (void *)i) != 0) _exit(5);
    for (size_t i = 0; i < BURST_THREADS; i++) pthread_join(threads[i], NULL);
}

// As busy as the others.
SITE static void nothing(void) {
    for (int step = 0; step < 100; step++) {
        char *block = site_take(100000);
        USED(block);
        free(block);
        sleep_ms(30);
    }
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    ready();
    if (!strcmp(argv[1], "leak")) leak();
    if (!strcmp(argv[1], "cache")) cache();
    if (!strcmp(argv[1], "shmem")) shmem();
    if (!strcmp(argv[1], "files")) files();
    if (!strcmp(argv[1], "burst")) burst();
    if (!strcmp(argv[1], "nothing")) nothing();
    say("done");
    send_line();
    wait_for_line();
    return 0;
}
