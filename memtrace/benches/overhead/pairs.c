// The benchmark's target: allocates and frees in pairs, and times and counts itself. It is told
// what to do line by line and answers each line with one of its own:
//
//   time PAIRS SIZE DEPTH   as fast as it can, below DEPTH frames: "PAIRS CPU_NS WALL_NS"
//   pace NS RATE            RATE pairs a second (0: as fast as it can) for NS: the same answer
//   hold COUNT SIZE         blocks that are written to and stay: the same answer
//
// Nothing else in here allocates, so that what it counts is all there is to see.
#define _GNU_SOURCE
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

// Between two looks at the clock of a paced run.
#define BATCH 64

static u64 clock_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (u64)now.tv_sec * 1000000000u + (u64)now.tv_nsec;
}

NOINLINE static void pairs(u64 count, size_t size) {
    for (u64 i = 0; i < count; i++) {
        char *block = malloc(size);
        USED(block);
        free(block);
    }
}

NOINLINE static void descend(u64 depth, u64 count, size_t size) {
    if (depth > 0) {
        descend(depth - 1, count, size);
    } else {
        pairs(count, size);
    }
    USED(depth);
}

static void wait_until(u64 due_ns) {
    u64 now = clock_ns(CLOCK_MONOTONIC);
    if (now >= due_ns) return;
    struct timespec rest = {(time_t)((due_ns - now) / 1000000000u),
                            (long)((due_ns - now) % 1000000000u)};
    nanosleep(&rest, NULL);
}

NOINLINE static u64 pace(u64 duration_ns, u64 pairs_per_second) {
    u64 started_ns = clock_ns(CLOCK_MONOTONIC), done = 0;
    while (clock_ns(CLOCK_MONOTONIC) - started_ns < duration_ns) {
        pairs(BATCH, 16 + done / BATCH % 64 * 24);
        done += BATCH;
        if (pairs_per_second) wait_until(started_ns + done * 1000000000u / pairs_per_second);
    }
    return done;
}

static void hold(u64 count, size_t size) {
    while (count--) memset(malloc(size), 1, size);
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

int main(void) {
    char line[128];
    if (write(1, "ready\n", 6) != 6) return 1;
    while (read_line(line, sizeof line)) {
        u64 first, second, depth, done;
        u64 cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID), wall_ns = clock_ns(CLOCK_MONOTONIC);
        if (sscanf(line, "time %lu %lu %lu", &first, &second, &depth) == 3) {
            descend(depth, first, second);
            done = first;
        } else if (sscanf(line, "pace %lu %lu", &first, &second) == 2) {
            done = pace(first, second);
        } else if (sscanf(line, "hold %lu %lu", &first, &second) == 2) {
            hold(first, second);
            done = first;
        } else {
            return 2;
        }
        cpu_ns = clock_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_ns;
        wall_ns = clock_ns(CLOCK_MONOTONIC) - wall_ns;
        int bytes = snprintf(line, sizeof line, "%lu %lu %lu\n", done, cpu_ns, wall_ns);
        if (write(1, line, (size_t)bytes) != bytes) return 3;
    }
    return 0;
}
