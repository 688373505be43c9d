// cflags: -O2
// A heap that never rests, whose program keeps count of it: live bytes, as sizes of chunks, by
// thread, where a test can read them at any time.
//
// Arguments: threads, MiB that are live, and what the threads do: `pairs` (malloc and free of the
// same few sizes), `churn` (any block is replaced by another of another size), `drift` (the same,
// and what is live goes down by a third and up again, four seconds each way), `mapped` (the same as
// `churn`, with some blocks that glibc maps one by one, replaced more slowly), `heaps` (the first
// heap of the thread's arena is full but for 220 kB, and two blocks come and go: the second needs a
// heap that comes and goes with it) or `rest`.
// After `ready` it says where the counts are: `{"counts": address, "pairs": address, "threads": n}`,
// 64 bytes apart, and goes on until its input ends.
#include "program.h"

#include <malloc.h>

enum { MOST_THREADS = 64, HEADER_BYTES = 8, MAPPED = 32 };

typedef struct {
    _Alignas(64) u64 live_bytes;
} Count;
static Count lives[MOST_THREADS], pairs[MOST_THREADS];

typedef struct {
    void **blocks;
    long count;
    long number;
    u64 state;
    void *mapped[MAPPED];
    u64 next_ns;
} Table;
static Table tables[MOST_THREADS];
static long thread_count;
static u64 bytes_per_thread;
static const char *mode;
static pthread_barrier_t filled;

static u64 next_random(u64 *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static int is(const char *name) { return !strcmp(mode, name); }

static size_t pick_bytes(u64 *state) {
    u64 kind = next_random(state) % 1000;
    if (kind < 600) return 8 + next_random(state) % 240;
    if (kind < 970) return 256 + next_random(state) % 1792;
    return 4096 + next_random(state) % 28000;
}

// A page at its end and one at its beginning are touched.
static void *take(long number, size_t bytes) {
    char *block = malloc(bytes);
    block[0] = block[bytes - 1] = 1;
    u64 *live = &lives[number].live_bytes;
    __atomic_store_n(live, *live + malloc_usable_size(block) + HEADER_BYTES, __ATOMIC_RELAXED);
    return block;
}

static void give_back(long number, void *block) {
    if (!block) return;
    u64 *live = &lives[number].live_bytes;
    __atomic_store_n(live, *live - malloc_usable_size(block) - HEADER_BYTES, __ATOMIC_RELAXED);
    free(block);
}

static int is_nearly_full(const void *block) {
    static const u64 HEAP_BYTES = 64 << 20;
    return (u64)block % HEAP_BYTES > HEAP_BYTES - 240000;
}

static void fill(Table *table) {
    table->count = (long)(bytes_per_thread / 256);
    table->blocks = mmap(NULL, (size_t)table->count * sizeof(void *), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    long used = 0;
    while (lives[table->number].live_bytes < bytes_per_thread && used < table->count) {
        table->blocks[used++] = take(table->number, pick_bytes(&table->state));
        if (is("heaps") && is_nearly_full(table->blocks[used - 1])) break;
    }
    table->count = used;
    for (int i = 0; is("mapped") && i < MAPPED; i++) {
        table->mapped[i] = take(table->number, 200000 + next_random(&table->state) % 900000);
    }
}

static void do_pairs(Table *table) {
    for (int i = 0; i < 64; i++) {
        size_t bytes = 24 + 16 * (next_random(&table->state) % 32);
        void *block = take(table->number, bytes);
        give_back(table->number, block);
    }
}

// Whether a block goes without another in its place, or comes without.
static int is_emptied(const Table *table) {
    static const u64 PERIOD_NS = 8000000000;
    u64 phase = now_ns() % PERIOD_NS;
    u64 part = phase < PERIOD_NS / 2 ? phase : PERIOD_NS - phase;
    u64 wanted = bytes_per_thread - bytes_per_thread / 3 * part / (PERIOD_NS / 2);
    return lives[table->number].live_bytes > wanted;
}

// Twenty times a second.
static void replace_mapped(Table *table) {
    static const u64 PERIOD_NS = 50000000;
    u64 now = now_ns();
    if (now < table->next_ns) return;
    table->next_ns = now + PERIOD_NS;
    void **slot = &table->mapped[next_random(&table->state) % MAPPED];
    give_back(table->number, *slot);
    *slot = take(table->number, 200000 + next_random(&table->state) % 900000);
}

static void do_churn(Table *table) {
    int shrink = is("drift") && is_emptied(table);
    for (int i = 0; i < 64; i++) {
        void **slot = &table->blocks[next_random(&table->state) % (u64)table->count];
        give_back(table->number, *slot);
        *slot = shrink ? NULL : take(table->number, pick_bytes(&table->state));
    }
    if (is("mapped")) replace_mapped(table);
}

// Every block is replaced twice: a heap that was just filled has no holes, and what is replaced goes
// to its end, in the direction of whoever walks through it.
static void settle(Table *table) {
    for (long done = 0; done < 2 * table->count; done += 64) do_churn(table);
}

static void do_heaps(Table *table) {
    void *first = take(table->number, 128000);
    void *second = take(table->number, 128000);
    give_back(table->number, second);
    give_back(table->number, first);
}

static void *work(void *argument) {
    Table *table = argument;
    fill(table);
    if (is("churn") || is("mapped") || is("drift")) settle(table);
    pthread_barrier_wait(&filled);
    while (is("rest")) pause();
    u64 *done = &pairs[table->number].live_bytes;
    for (;;) {
        if (is("pairs")) do_pairs(table);
        else if (is("heaps")) do_heaps(table);
        else do_churn(table);
        __atomic_store_n(done, *done + 64, __ATOMIC_RELAXED);
    }
    return NULL;
}

int main(int count, char **arguments) {
    if (count < 4) return 2;
    thread_count = atol(arguments[1]);
    bytes_per_thread = ((u64)atol(arguments[2]) << 20) / (u64)thread_count;
    mode = arguments[3];
    pthread_barrier_init(&filled, NULL, (unsigned)thread_count + 1);
    for (long i = 0; i < thread_count; i++) {
        tables[i] = (Table){.number = i, .state = (u64)i * 104729 + 12345};
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, &tables[i])) return 3;
    }
    // What the threads' own start took.
    pthread_barrier_wait(&filled);
    ready();
    say("{\"counts\": %lu, \"pairs\": %lu, \"threads\": %ld}", (u64)lives, (u64)pairs, thread_count);
    send_line();
    wait_for_line();
    return 0;
}
