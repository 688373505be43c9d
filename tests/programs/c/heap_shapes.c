// A heap of every kind of chunk, quiet, whose program asks glibc itself what it has.
//
// Arguments: threads, blocks per thread, and `plain`, `foreign` (the program calls sbrk itself),
// `blocked` (the break cannot grow any more) or `idle` (threads end before the heap is looked at).
// Then, line by line: `malloc_info` and `mallinfo2`; `malloc_trim(0)`.
#include "program.h"

#include <malloc.h>

// mallinfo2 is there since 2.33; before, sums are of 32 bits.
#if __GLIBC__ == 2 && __GLIBC_MINOR__ < 33
#define INFO struct mallinfo
#define GET_INFO mallinfo
#else
#define INFO struct mallinfo2
#define GET_INFO mallinfo2
#endif

static long thread_count, block_count;
static const char *mode;

typedef struct {
    void **blocks;
    void *freed[40];
} Table;
static Table tables[64];
static pthread_barrier_t filled, finished;

static u64 next_random(u64 *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

// Mostly small, some of several pages, a few that are too large for bins of one size.
static size_t pick_bytes(u64 *state) {
    u64 kind = next_random(state) % 1000;
    if (kind < 700) return 8 + next_random(state) % 240;
    if (kind < 950) return 256 + next_random(state) % 3840;
    if (kind < 998) return 4096 + next_random(state) % 60000;
    return 70000 + next_random(state) % 50000;
}

static void *filled_block(size_t bytes) {
    char *block = malloc(bytes);
    memset(block, 0x5a, bytes < 4096 ? bytes : 4096);
    return block;
}

static long empty_slot(void **blocks, u64 *state) {
    long slot;
    do slot = (long)(next_random(state) % (u64)block_count);
    while (blocks[slot]);
    return slot;
}

// Leaves scattered survivors.
static void fragment(void **blocks, u64 *state) {
    for (long i = 0; i < block_count; i++) {
        size_t bytes = pick_bytes(state);
        blocks[i] = filled_block(bytes);
        if (bytes > 4096 && i % 2) memset(blocks[i], 1, bytes);
    }
    for (long i = 0; i < block_count; i++) {
        if (next_random(state) % 100 >= 85) continue;
        free(blocks[i]);
        blocks[i] = NULL;
    }
    for (long i = 0; i < block_count / 10; i++) {
        long slot = empty_slot(blocks, state);
        blocks[slot] = filled_block(pick_bytes(state));
    }
}

static void add_aligned_and_mapped(void **blocks, u64 *state) {
    for (int i = 0; i < 5; i++) {
        long slot = empty_slot(blocks, state);
        if (posix_memalign(&blocks[slot], (size_t)64 << i, (size_t)3000 + 777 * (size_t)i)) abort();
    }
    for (size_t i = 0; i < 4; i++) blocks[empty_slot(blocks, state)] = filled_block(300000 + i * 1000000);
    if (posix_memalign(&blocks[empty_slot(blocks, state)], 4096, 900000)) abort();
    long slot = empty_slot(blocks, state);
    blocks[slot] = filled_block(400000);
    blocks[slot] = realloc(blocks[slot], 5000000);
}

static void foreign_break(void) {
    for (long i = 0; i < 3; i++) {
        size_t bytes = 12345 + 50000 * (size_t)i;
        memset(sbrk((intptr_t)bytes), 0xee, bytes);
        for (size_t k = 0; k < 3000; k++) USED(filled_block(30 + k % 900));
    }
}

// More of each size than a tcache takes; the first to be freed stay in it.
static void fill_caches(Table *table) {
    void *burst[240];
    for (size_t i = 0; i < 240; i++) burst[i] = malloc(24 + i % 6 * 16);
    for (size_t i = 0; i < 240; i += 2) free(burst[i]);
    for (size_t i = 1; i < 240; i += 2) {
        if (i % 3 == 0) continue;
        free(burst[i]);
    }
    memcpy(table->freed, burst, sizeof table->freed);
}

static void work(long number) {
    u64 state = (u64)number * 104729 + 12345;
    Table *table = &tables[number];
    table->blocks = calloc((size_t)block_count, sizeof *table->blocks);
    fragment(table->blocks, &state);
    add_aligned_and_mapped(table->blocks, &state);
    if (number == 0 && !strcmp(mode, "foreign")) foreign_break();
    fill_caches(table);
}

static void *run_thread(void *number) {
    work((long)number);
    if (!strcmp(mode, "idle")) return NULL;
    pthread_barrier_wait(&filled);
    pthread_barrier_wait(&finished);
    return NULL;
}

static void block_break(void) {
    void *end = (void *)(((u64)sbrk(0) + 4095) & ~(u64)4095);
    void *wall = mmap(end, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (wall != end) abort();
}

static void say_what_glibc_says(void) {
    malloc_info(0, stdout);
    fflush(stdout);
    INFO it = GET_INFO();
    say("{\"arena\": %lu, \"ordblks\": %lu, \"smblks\": %lu, \"hblks\": %lu, \"hblkhd\": %lu, ",
        (u64)it.arena, (u64)it.ordblks, (u64)it.smblks, (u64)it.hblks, (u64)it.hblkhd);
    say("\"fsmblks\": %lu, \"uordblks\": %lu, \"fordblks\": %lu, \"keepcost\": %lu}",
        (u64)it.fsmblks, (u64)it.uordblks, (u64)it.fordblks, (u64)it.keepcost);
    send_line();
}

static void say_blocks(void) {
    for (long i = 0; i <= thread_count; i++) {
        for (long k = 0; tables[i].blocks && k < block_count; k += 1 + block_count / 4000) {
            void *block = tables[i].blocks[k];
            if (!block) continue;
            say("live %lu %zu", (u64)block, malloc_usable_size(block));
            send_line();
        }
        for (int k = 0; tables[i].blocks && k < 40; k += 2) {
            say("freed %lu", (u64)tables[i].freed[k]);
            send_line();
        }
    }
    say("end");
    send_line();
}

int main(int count, char **arguments) {
    static char buffer[1 << 16];
    setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    if (count < 4) return 2;
    thread_count = atol(arguments[1]);
    block_count = atol(arguments[2]);
    mode = arguments[3];
    pthread_barrier_init(&filled, NULL, (unsigned)thread_count + 1);
    pthread_barrier_init(&finished, NULL, (unsigned)thread_count + 1);
    if (!strcmp(mode, "blocked")) block_break();
    pthread_t threads[64];
    for (long i = 0; i < thread_count; i++) pthread_create(&threads[i], NULL, run_thread, (void *)(i + 1));
    work(0);
    for (long i = 0; !strcmp(mode, "idle") && i < thread_count; i++) pthread_join(threads[i], NULL);
    if (strcmp(mode, "idle")) pthread_barrier_wait(&filled);
    ready();
    say_what_glibc_says();
    say_blocks();
    wait_for_line();
    malloc_trim(0);
    say("trimmed");
    send_line();
    wait_for_line();
    return 0;
}
