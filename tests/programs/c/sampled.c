// Allocates in every way and often, each site blocks of one size, and frees all of it but a leak, by
// itself or on another thread: `sampled THREADS ROUNDS`. With one thread it does so each time that it
// is told to, holds some blocks until the next time, and its books go on.
#include "truth.h"

#define SITES(X)                                                                                   \
    X(malloc_small, MALLOC) X(malloc_medium, MALLOC) X(malloc_large, MALLOC)                       \
    X(malloc_for_realloc, MALLOC) X(malloc_handed_over, MALLOC) X(malloc_leaked, MALLOC)           \
    X(malloc_copied, MALLOC) X(malloc_held, MALLOC) X(calloc_zeroed, CALLOC) X(realloc_from_null, REALLOC)                \
    X(realloc_grow, REALLOC) X(realloc_shrink, REALLOC) X(realloc_failing, REALLOC)                \
    X(realloc_to_zero, REALLOC) X(reallocarray_from_null, REALLOCARRAY)                            \
    X(reallocarray_grow, REALLOCARRAY) X(memalign_far, MEMALIGN) X(memalign_near, MEMALIGN)        \
    X(aligned_alloc_far, ALIGNED_ALLOC) X(posix_memalign_far, POSIX_MEMALIGN)                      \
    X(posix_memalign_near, POSIX_MEMALIGN) X(valloc_page, VALLOC) X(pvalloc_page, PVALLOC)

enum {
#define AS_INDEX(name, function) SITE_##name,
    SITES(AS_INDEX) SITE_COUNT
};

static struct site sites[SITE_COUNT] = {
#define AS_ENTRY(site, called) [SITE_##site] = {.name = "site_" #site, .function = called},
    SITES(AS_ENTRY)
};

void *memalign(size_t alignment, size_t size);
void *pvalloc(size_t size);

// Defines `site_NAME()`, which makes one call and books its outcome.
#define NEW_SITE(name, called, size, call)                                                         \
    SITE static struct block site_##name(void) {                                                   \
        count(&calls[called], 1);                                                                  \
        void *address = call;                                                                      \
        USED(address);                                                                             \
        return obtained(&sites[SITE_##name], address, size);                                       \
    }
NEW_SITE(malloc_small, MALLOC, 48, malloc(48))
NEW_SITE(malloc_medium, MALLOC, 700, malloc(700))
NEW_SITE(malloc_large, MALLOC, 9000, malloc(9000))
NEW_SITE(malloc_for_realloc, MALLOC, 500, malloc(500))
NEW_SITE(malloc_handed_over, MALLOC, 96, malloc(96))
NEW_SITE(malloc_leaked, MALLOC, 1000, malloc(1000))
NEW_SITE(malloc_held, MALLOC, 333, malloc(333))
NEW_SITE(calloc_zeroed, CALLOC, 256, calloc(32, 8))
NEW_SITE(memalign_far, MEMALIGN, 300, memalign(64, 300))
NEW_SITE(memalign_near, MEMALIGN, 33, memalign(8, 33))
NEW_SITE(aligned_alloc_far, ALIGNED_ALLOC, 512, aligned_alloc(256, 512))
NEW_SITE(valloc_page, VALLOC, 2000, valloc(2000))
NEW_SITE(pvalloc_page, PVALLOC, 3000, pvalloc(3000))

#define POSIX_MEMALIGN_SITE(name, alignment, size)                                                 \
    SITE static struct block site_##name(void) {                                                   \
        count(&calls[POSIX_MEMALIGN], 1);                                                          \
        void *address = NULL;                                                                      \
        if (posix_memalign(&address, alignment, size) != 0) address = NULL;                        \
        return obtained(&sites[SITE_##name], address, size);                                       \
    }
POSIX_MEMALIGN_SITE(posix_memalign_far, 128, 700)
POSIX_MEMALIGN_SITE(posix_memalign_near, 8, 40)

static struct block moved(struct site *site, struct block *old, void *address, size_t size) {
    if (address == NULL && size != 0) return obtained(site, NULL, size), *old;
    if (old->address != NULL) released(old);
    return address == NULL ? (struct block){0} : obtained(site, address, size);
}

static volatile size_t impossible = (size_t)1 << 62;

#define REALLOC_SITE(name, called, size, call)                                                     \
    SITE static struct block site_##name(struct block *old) {                                      \
        count(&calls[called], 1);                                                                  \
        void *address = call;                                                                      \
        USED(address);                                                                             \
        return moved(&sites[SITE_##name], old, address, size);                                     \
    }
REALLOC_SITE(realloc_from_null, REALLOC, 100, realloc(old->address, 100))
REALLOC_SITE(realloc_grow, REALLOC, 5000, realloc(old->address, 5000))
REALLOC_SITE(realloc_shrink, REALLOC, 50, realloc(old->address, 50))
REALLOC_SITE(realloc_failing, REALLOC, impossible, realloc(old->address, impossible))
REALLOC_SITE(realloc_to_zero, REALLOC, 0, realloc(old->address, 0))
REALLOC_SITE(reallocarray_from_null, REALLOCARRAY, 120, reallocarray(old->address, 10, 12))
REALLOC_SITE(reallocarray_grow, REALLOCARRAY, 1200, reallocarray(old->address, 100, 12))

// The C library allocates, and the program frees.
static char original[75];

SITE static struct block site_malloc_copied(void) {
    count(&calls[MALLOC], 1);
    return obtained(&sites[SITE_malloc_copied], strdup(original), sizeof original);
}

SITE static void release(struct block block) {
    count(&calls[FREE], 1);
    void *address = block.address;
    // Booked first: from the call on, the address can be another thread's.
    released(&block);
    free(address);
}

#define MAX_THREADS 16
static struct block mailboxes[MAX_THREADS];
static pthread_barrier_t everybody;
static int thread_count, rounds;

static void reallocate(void) {
    struct block block = {0};
    block = site_realloc_from_null(&block);
    block = site_realloc_grow(&block);
    block = site_realloc_failing(&block);
    release(site_realloc_shrink(&block));
    block = site_malloc_for_realloc();
    block = site_realloc_to_zero(&block);
    block = site_reallocarray_from_null(&block);
    release(site_reallocarray_grow(&block));
}

static void align(void) {
    release(site_memalign_far());
    release(site_memalign_near());
    release(site_aligned_alloc_far());
    release(site_posix_memalign_far());
    release(site_posix_memalign_near());
    release(site_valloc_page());
    release(site_pvalloc_page());
}

static void hand_over(int thread) {
    mailboxes[thread] = site_malloc_handed_over();
    pthread_barrier_wait(&everybody);
    release(mailboxes[(thread + 1) % thread_count]);
    pthread_barrier_wait(&everybody);
}

static void allocate(int thread) {
    for (int round = 0; round < rounds; round++) {
        struct block small = site_malloc_small(), medium = site_malloc_medium();
        release(site_malloc_large());
        release(site_calloc_zeroed());
        release(small);
        release(site_malloc_copied());
        release(medium);
        reallocate();
        align();
        if (round % 8 == 0) hand_over(thread);
        if (round % 4 == 0) site_malloc_leaked();
    }
}

#define HELD 400
static struct block held[HELD];

static void hold_others(void) {
    for (int i = 0; i < HELD; i++) {
        if (held[i].address != NULL) release(held[i]);
        held[i] = site_malloc_held();
    }
}

static void *work(void *thread) {
    allocate((int)(intptr_t)thread);
    pthread_barrier_wait(&everybody);
    for (;;) pause();
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    thread_count = atoi(argv[1]);
    rounds = atoi(argv[2]);
    if (thread_count < 1 || thread_count > MAX_THREADS) return 2;
    memset(original, 'x', sizeof original - 1);
    pthread_barrier_init(&everybody, NULL, (unsigned)thread_count);
    ready();
    for (int i = 1; i < thread_count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, (void *)(intptr_t)i) != 0) return 3;
    }
    do {
        allocate(0);
        hold_others();
        pthread_barrier_wait(&everybody);
        send_truth(sites, SITE_COUNT);
        wait_for_line();
    } while (thread_count == 1);
}
