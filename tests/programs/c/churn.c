// Allocates and frees at a steady rate, or as fast as it can, and counts its calls:
// `churn THREADS SECONDS PAIRS_PER_SECOND` (0: as fast as it can). Leaks nothing.
#include "program.h"

#define MAX_THREADS 64
#define BATCH 64

static u64 pairs, until_ns, pairs_per_second;
static int thread_count;
static pthread_barrier_t everybody;

SITE static void churn_pair(size_t size) {
    char *block = malloc(size);
    USED(block);
    free(block);
}

static void keep_pace(u64 started_ns, u64 done) {
    if (pairs_per_second == 0) return;
    u64 due_ns = started_ns + done * 1000000000u * (u64)thread_count / pairs_per_second;
    u64 now = now_ns();
    if (due_ns <= now) return;
    struct timespec rest = {(time_t)((due_ns - now) / 1000000000u),
                            (long)((due_ns - now) % 1000000000u)};
    nanosleep(&rest, NULL);
}

static void churn(void) {
    u64 started_ns = now_ns(), done = 0;
    while (now_ns() < until_ns) {
        for (size_t i = 0; i < BATCH; i++) churn_pair(16 + 24 * i);
        done += BATCH;
        keep_pace(started_ns, done);
    }
    count(&pairs, done);
}

static void *work(void *unused) {
    pthread_barrier_wait(&everybody);
    pthread_barrier_wait(&everybody);
    churn();
    pthread_barrier_wait(&everybody);
    for (;;) pause();
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    thread_count = atoi(argv[1]);
    u64 duration_ns = (u64)(atof(argv[2]) * 1e9);
    pairs_per_second = strtoull(argv[3], NULL, 10);
    if (thread_count < 1 || thread_count > MAX_THREADS) return 2;
    pthread_barrier_init(&everybody, NULL, (unsigned)thread_count);
    for (int i = 1; i < thread_count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, NULL) != 0) return 3;
    }
    pthread_barrier_wait(&everybody);
    ready();
    u64 started_ns = now_ns();
    until_ns = started_ns + duration_ns;
    pthread_barrier_wait(&everybody);
    churn();
    pthread_barrier_wait(&everybody);
    say("{\"pairs\": %lu, \"elapsed_ns\": %lu}", pairs, now_ns() - started_ns);
    send_line();
    wait_for_line();
    _exit(0);
}
