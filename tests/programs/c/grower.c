// Grows until it is killed: `grower BYTES_PER_SECOND [WAIT_SECONDS]`, from after the wait on, or from
// SIGUSR1 on. One line keeps what it obtains; another one obtains and frees as much. With a limit on
// its control group, it is killed by the kernel.
#include "program.h"

#include <stdlib.h>
#include <time.h>

#define BLOCK_BYTES 32768
#define TICKS_PER_SECOND 50

struct kept {
    struct kept *next;
    char data[BLOCK_BYTES - sizeof(struct kept *)];
};

static struct kept *all;

SITE static void keep_forever(void) {
    struct kept *block = malloc(sizeof *block); // the leak
    memset(block->data, 1, sizeof block->data);
    block->next = all;
    all = block;
}

SITE static void use_and_free(void) {
    char *block = malloc(BLOCK_BYTES / 2);
    memset(block, 2, BLOCK_BYTES / 2);
    USED(block);
    free(block);
}

static void begin(int signal) {
    (void)signal; // It ends the wait.
}

int main(int argc, char **argv) {
    long per_second = argc > 1 ? atol(argv[1]) : 1 << 20;
    struct timespec wait = {.tv_sec = argc > 2 ? atol(argv[2]) : 0};
    struct timespec tick = {.tv_nsec = 1000000000 / TICKS_PER_SECOND};
    signal(SIGUSR1, begin);
    printf("growing\n");
    fflush(stdout);
    nanosleep(&wait, NULL);
    for (long ticks = 1;; ticks++) {
        // What is due by now, whatever a busy machine makes of the ticks.
        for (long due = per_second / TICKS_PER_SECOND; due > 0; due -= BLOCK_BYTES) {
            keep_forever();
            use_and_free();
        }
        nanosleep(&tick, NULL);
    }
}
