// Allocates and frees in so many threads at once:
//
//   threads pairs COUNT     blocks of 256 bytes, each freed at once
//   threads churn COUNT     4,096 blocks a thread, of 16 to 2,048 bytes, replaced in random order:
//                           the heap gets holes
//
// Answers `pace NS RATE`, for how long and how many a second by all together (0: as fast as it can),
// by "DONE CPU_NS WALL_NS": blocks obtained, and the time that all threads together and the clock on
// the wall took.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef uint64_t u64;

#define NOINLINE __attribute__((noinline, noclone))
// Makes the compiler believe that somebody else uses the value.
#define USED(value) __asm__ volatile("" : : "r"(value) : "memory")

#define MOST_THREADS 64
#define SLOTS 4096
// Between two looks at the clock.
#define BATCH 256

struct worker {
    pthread_t thread;
    u64 started_ns, duration_ns, rate, done, random;
    void *slots[SLOTS];
};

static struct worker workers[MOST_THREADS];

static u64 clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (u64)now.tv_sec * 1000000000u + (u64)now.tv_nsec;
}

static u64 next_random(u64 *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

NOINLINE static void pairs(void) {
    for (int i = 0; i < BATCH; i++) {
        char *block = malloc(256);
        USED(block);
        free(block);
    }
}

NOINLINE static void churn(struct worker *own) {
    for (int i = 0; i < BATCH; i++) {
        u64 random = next_random(&own->random);
        void **slot = &own->slots[random % SLOTS];
        free(*slot);
        *slot = malloc(16 + (random >> 32) % 2033);
        USED(*slot);
    }
}

static int is_churn;

static void wait_until(u64 due_ns) {
    u64 now = clock_ns(CLOCK_MONOTONIC);
    if (now >= due_ns) return;
    struct timespec rest = {(time_t)((due_ns - now) / 1000000000u),
                            (long)((due_ns - now) % 1000000000u)};
    nanosleep(&rest, NULL);
}

static void *work(void *argument) {
    struct worker *own = argument;
    own->done = 0;
    while (clock_ns(CLOCK_MONOTONIC) - own->started_ns < own->duration_ns) {
        if (is_churn) {
            churn(own);
        } else {
            pairs();
        }
        own->done += BATCH;
        if (own->rate) wait_until(own->started_ns + own->done * 1000000000u / own->rate);
    }
    return NULL;
}

static int pace(u64 duration_ns, u64 rate, int threads) {
    u64 started_ns = clock_ns(CLOCK_MONOTONIC);
    for (int i = 0; i < threads; i++) {
        workers[i].started_ns = started_ns;
        workers[i].duration_ns = duration_ns;
        workers[i].rate = rate / (u64)threads;
    }
    for (int i = 1; i < threads; i++) {
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) return 0;
    }
    work(&workers[0]);
    for (int i = 1; i < threads; i++) pthread_join(workers[i].thread, NULL);
    return 1;
}

static int read_line(char *line, size_t room) {
    for (size_t at = 0; at + 1 < room; at++) {
        if (read(0, line + at, 1) != 1) return 0;
        if (line[at] == '\n') {
            line[at] = 0;
            return 1;
        }
    }
    return 0;
}

int main(int count, char **arguments) {
    int threads = count == 3 ? atoi(arguments[2]) : 0;
    if (threads < 1 || threads > MOST_THREADS) return 2;
    is_churn = !strcmp(arguments[1], "churn");
    for (int i = 0; i < threads; i++) workers[i].random = 0x2545f4914f6cdd1d + (u64)i;
    char line[128];
    if (write(1, "ready\n", 6) != 6) return 1;
    while (read_line(line, sizeof line)) {
        u64 duration_ns, rate, done = 0;
        if (sscanf(line, "pace %lu %lu", &duration_ns, &rate) != 2) return 2;
        u64 cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID), wall_ns = clock_ns(CLOCK_MONOTONIC);
        if (!pace(duration_ns, rate, threads)) return 4;
        cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns;
        wall_ns = clock_ns(CLOCK_MONOTONIC) - wall_ns;
        for (int i = 0; i < threads; i++) done += workers[i].done;
        int bytes = snprintf(line, sizeof line, "%lu %lu %lu\n", done, cpu_ns, wall_ns);
        if (write(1, line, (size_t)bytes) != bytes) return 3;
    }
    return 0;
}
