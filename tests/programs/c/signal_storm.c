// Allocates while signals arrive, also in the middle of allocator calls: `signal_storm SIGNALS`.
// From time to time the handler jumps out of the program's own code, never out of the allocator.
#include "truth.h"
#include <setjmp.h>

enum { KEPT, FREED, GROWN, SITE_COUNT };

static struct site sites[SITE_COUNT] = {
    {.name = "site_storm_kept", .function = MALLOC},
    {.name = "site_storm_freed", .function = MALLOC},
    {.name = "site_storm_grown", .function = REALLOC},
};

static volatile sig_atomic_t may_jump, signals_seen;
static sigjmp_buf escape;
static volatile int storm_over;
static pthread_t victim;

static void on_signal(int number) {
    (void)number;
    signals_seen++;
    if (may_jump) {
        may_jump = 0;
        siglongjmp(escape, 1);
    }
}

static void *storm(void *unused) {
    struct timespec gap = {0, 50000};
    while (!storm_over) {
        pthread_kill(victim, SIGUSR1);
        nanosleep(&gap, NULL);
    }
    return unused;
}

SITE static struct block site_storm_kept(size_t size) {
    count(&calls[MALLOC], 1);
    return obtained(&sites[KEPT], malloc(size), size);
}

SITE static struct block site_storm_freed(size_t size) {
    count(&calls[MALLOC], 1);
    return obtained(&sites[FREED], malloc(size), size);
}

SITE static struct block site_storm_grown(struct block *old, size_t size) {
    count(&calls[REALLOC], 1);
    void *address = realloc(old->address, size);
    if (address == NULL) abort();
    released(old);
    return obtained(&sites[GROWN], address, size);
}

SITE static void release(struct block *block) {
    count(&calls[FREE], 1);
    void *address = block->address;
    released(block);
    free(address);
}

SITE static void wait_to_be_thrown_out(void) {
    if (sigsetjmp(escape, 1) != 0) return;
    may_jump = 1;
    for (;;) __asm__ volatile("" ::: "memory");
}

static void allocate(size_t round) {
    struct block block = site_storm_freed(16 + round % 3000);
    block = site_storm_grown(&block, 100 + round % 5000);
    release(&block);
    if (round % 64 == 0) site_storm_kept(64);
    if (round % 1024 == 0) wait_to_be_thrown_out();
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction(SIGUSR1, &action, NULL);
    victim = pthread_self();
    ready();
    int wanted = atoi(argv[1]);
    // The thread's own allocations are made and counted by libc, as two calls of calloc or none.
    pthread_t thread;
    if (pthread_create(&thread, NULL, storm, NULL) != 0) return 3;
    for (size_t round = 1; signals_seen < wanted; round++) allocate(round);
    storm_over = 1;
    pthread_join(thread, NULL);
    send_truth(sites, SITE_COUNT);
    wait_for_line();
    _exit(0);
}
