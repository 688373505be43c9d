// Calls everything that memtrace traces, and says what it did: `ground_truth SCENARIO THREADS`.
//
// heap      malloc and kin in all their variants, on every thread, also freed by other threads
// mappings  mmap, munmap, mremap: whole, in parts, across, over one another
// break     brk and sbrk, up and down (first thread only)
// before    frees what was there before the window
// ages      survivors of different ages
// many      5000 small blocks on every thread, none of them freed
#include "truth.h"

#define SITES(X)                                                                                   \
    X(malloc_kept, MALLOC) X(malloc_freed, MALLOC) X(malloc_huge_kept, MALLOC)                     \
    X(malloc_huge_freed, MALLOC) X(malloc_nothing, MALLOC) X(malloc_failing, MALLOC)               \
    X(malloc_for_realloc, MALLOC) X(malloc_handed_over, MALLOC) X(malloc_old, MALLOC)              \
    X(malloc_young, MALLOC) X(malloc_before, MALLOC) X(malloc_many, MALLOC)                        \
    X(calloc_kept, CALLOC) X(calloc_freed, CALLOC) X(calloc_failing, CALLOC)                       \
    X(realloc_from_null, REALLOC) X(realloc_grow, REALLOC) X(realloc_shrink, REALLOC)              \
    X(realloc_move, REALLOC) X(realloc_to_zero, REALLOC) X(realloc_failing, REALLOC)               \
    X(realloc_handed_over, REALLOC) X(realloc_before, REALLOC)                                     \
    X(reallocarray_from_null, REALLOCARRAY) X(reallocarray_grow, REALLOCARRAY)                     \
    X(reallocarray_failing, REALLOCARRAY)                                                          \
    X(memalign_kept, MEMALIGN) X(memalign_as_malloc, MEMALIGN)                                     \
    X(aligned_alloc_kept, ALIGNED_ALLOC) X(aligned_alloc_freed, ALIGNED_ALLOC)                     \
    X(aligned_alloc_failing, ALIGNED_ALLOC) X(posix_memalign_kept, POSIX_MEMALIGN)                 \
    X(posix_memalign_failing, POSIX_MEMALIGN) X(valloc_kept, VALLOC) X(pvalloc_kept, PVALLOC)      \
    X(mmap_kept, MMAP) X(mmap_whole, MMAP) X(mmap_parts, MMAP) X(mmap_odd, MMAP)                   \
    X(mmap_reserved, MMAP) X(mmap_over_a, MMAP) X(mmap_over_b, MMAP) X(mmap_failing, MMAP)         \
    X(mmap_for_mremap, MMAP) X(mmap_before, MMAP) X(mremap_grow, MREMAP) X(mremap_shrink, MREMAP)  \
    X(mremap_move, MREMAP) X(mremap_failing, MREMAP)                                               \
    X(sbrk_grow, SBRK) X(sbrk_failing, SBRK) X(brk_grow, BRK) X(brk_failing, BRK)

enum {
#define AS_INDEX(name, function) SITE_##name,
    SITES(AS_INDEX) SITE_COUNT
};

static struct site sites[SITE_COUNT] = {
#define AS_ENTRY(site, called) [SITE_##site] = {.name = "site_" #site, .function = called},
    SITES(AS_ENTRY)
};

// Defines `site_NAME(parameters)`, which makes one call and books its outcome.
#define HEAP_SITE(name, called, parameters, call)                                                  \
    SITE static struct block site_##name parameters {                                              \
        count(&calls[called], 1);                                                                  \
        void *address = call;                                                                      \
        USED(address);                                                                             \
        return obtained(&sites[SITE_##name], address, size);                                       \
    }

#define MALLOC_SITE(name) HEAP_SITE(name, MALLOC, (size_t size), malloc(size))
MALLOC_SITE(malloc_kept)
MALLOC_SITE(malloc_freed)
MALLOC_SITE(malloc_huge_kept)
MALLOC_SITE(malloc_huge_freed)
MALLOC_SITE(malloc_nothing)
MALLOC_SITE(malloc_failing)
MALLOC_SITE(malloc_for_realloc)
MALLOC_SITE(malloc_handed_over)
MALLOC_SITE(malloc_old)
MALLOC_SITE(malloc_young)
MALLOC_SITE(malloc_before)
MALLOC_SITE(malloc_many)

#define CALLOC_SITE(name) HEAP_SITE(name, CALLOC, (size_t size), calloc(size / 8, 8))
CALLOC_SITE(calloc_kept)
CALLOC_SITE(calloc_freed)
HEAP_SITE(calloc_failing, CALLOC, (size_t count_, size_t size), calloc(count_, size))

#define ALIGNED_SITE(name, called, function)                                                       \
    HEAP_SITE(name, called, (size_t alignment, size_t size), function(alignment, size))
void *memalign(size_t alignment, size_t size);
ALIGNED_SITE(memalign_kept, MEMALIGN, memalign)
ALIGNED_SITE(memalign_as_malloc, MEMALIGN, memalign)
ALIGNED_SITE(aligned_alloc_kept, ALIGNED_ALLOC, aligned_alloc)
ALIGNED_SITE(aligned_alloc_freed, ALIGNED_ALLOC, aligned_alloc)
ALIGNED_SITE(aligned_alloc_failing, ALIGNED_ALLOC, aligned_alloc)

void *pvalloc(size_t size);
HEAP_SITE(valloc_kept, VALLOC, (size_t size), valloc(size))
HEAP_SITE(pvalloc_kept, PVALLOC, (size_t size), pvalloc(size))

#define POSIX_MEMALIGN_SITE(name)                                                                  \
    SITE static struct block site_##name(size_t alignment, size_t size) {                          \
        count(&calls[POSIX_MEMALIGN], 1);                                                          \
        void *address = NULL;                                                                      \
        if (posix_memalign(&address, alignment, size) != 0) address = NULL;                        \
        return obtained(&sites[SITE_##name], address, size);                                       \
    }
POSIX_MEMALIGN_SITE(posix_memalign_kept)
POSIX_MEMALIGN_SITE(posix_memalign_failing)

// realloc frees its block unless it fails; with a size of 0 it does only that.
static struct block moved(struct site *site, struct block *old, void *address, size_t size) {
    if (address == NULL && size != 0) return obtained(site, NULL, size);
    if (old->address != NULL) released(old);
    return address == NULL ? (struct block){0} : obtained(site, address, size);
}

#define REALLOC_SITE(name)                                                                         \
    SITE static struct block site_##name(struct block *old, size_t size) {                         \
        count(&calls[REALLOC], 1);                                                                 \
        void *address = realloc(old->address, size);                                               \
        USED(address);                                                                             \
        return moved(&sites[SITE_##name], old, address, size);                                     \
    }
REALLOC_SITE(realloc_from_null)
REALLOC_SITE(realloc_grow)
REALLOC_SITE(realloc_shrink)
REALLOC_SITE(realloc_move)
REALLOC_SITE(realloc_to_zero)
REALLOC_SITE(realloc_failing)
REALLOC_SITE(realloc_handed_over)
REALLOC_SITE(realloc_before)

#define REALLOCARRAY_SITE(name)                                                                    \
    SITE static struct block site_##name(struct block *old, size_t each, size_t size) {            \
        count(&calls[REALLOCARRAY], 1);                                                            \
        void *address = reallocarray(old->address, each, size);                                    \
        USED(address);                                                                             \
        return moved(&sites[SITE_##name], old, address, each * size);                              \
    }
REALLOCARRAY_SITE(reallocarray_from_null)
REALLOCARRAY_SITE(reallocarray_grow)

SITE static void site_reallocarray_failing(struct block *old, size_t each, size_t size) {
    count(&calls[REALLOCARRAY], 1);
    void *address = reallocarray(old->address, each, size);
    USED(address);
    obtained(&sites[SITE_reallocarray_failing], address, size);
}

SITE static void release(struct block *block) {
    count(&calls[FREE], 1);
    void *address = block->address;
    // Booked first: from the call on, the address can be another thread's.
    if (address == NULL) {
        count(&voids[FREE], 1);
    } else {
        released(block);
    }
    free(address);
    USED(address);
}

// ------------------------------------------------------------------------------------------------
// heap

#define MAX_THREADS 16
#define HANDED_OVER 16
// Larger than any address space, and not a constant to the compiler.
static volatile size_t impossible = (size_t)1 << 62;

static struct block mailboxes[MAX_THREADS][HANDED_OVER];
static pthread_barrier_t everybody;
static int thread_count;

static void malloc_and_free(void) {
    for (size_t i = 0; i < 5; i++) site_malloc_kept(24 + 1000 * i);
    for (size_t i = 0; i < 20; i++) {
        struct block block = site_malloc_freed(1 + 77 * i);
        release(&block);
    }
    site_malloc_huge_kept(300001);
    struct block huge = site_malloc_huge_freed(5000000);
    release(&huge);
    site_malloc_nothing(0);
    site_malloc_failing(impossible);
    struct block null = {0};
    for (int i = 0; i < 3; i++) release(&null);
}

static void zeroed(void) {
    site_calloc_kept(4096);
    struct block block = site_calloc_freed(800);
    release(&block);
    site_calloc_failing(impossible, 1);
    site_calloc_failing(impossible, 16);
}

static void reallocated(void) {
    struct block nothing = {0};
    struct block block = site_realloc_from_null(&nothing, 100);
    block = site_realloc_grow(&block, 5000);
    block = site_realloc_shrink(&block, 50);
    site_realloc_failing(&block, impossible);
    site_realloc_failing(&nothing, impossible);

    struct block moving = site_malloc_for_realloc(1000);
    site_malloc_kept(16); // stands behind it
    moving = site_realloc_move(&moving, 200000);
    moving = site_realloc_move(&moving, 4000000);
    moving = site_realloc_move(&moving, 3000);

    struct block vanishing = site_malloc_for_realloc(77);
    vanishing = site_realloc_to_zero(&vanishing, 0);
    struct block freed = site_malloc_for_realloc(99);
    freed = site_realloc_grow(&freed, 999);
    release(&freed);

    struct block array = site_reallocarray_from_null(&nothing, 10, 12);
    array = site_reallocarray_grow(&array, 1000, 12);
    site_reallocarray_failing(&array, impossible, 16);
    site_reallocarray_failing(&array, impossible, 1);
}

static void aligned(void) {
    site_memalign_kept(64, 1000);
    site_memalign_as_malloc(8, 33);
    site_aligned_alloc_kept(4096, 8192);
    struct block block = site_aligned_alloc_freed(256, 512);
    release(&block);
    site_aligned_alloc_failing(64, impossible);
    struct block grown = site_posix_memalign_kept(128, 700);
    site_realloc_grow(&grown, 7000);
    site_posix_memalign_kept(32, 31);
    site_posix_memalign_failing(3, 100);
    site_posix_memalign_failing(64, impossible);
    site_valloc_kept(5000);
    site_pvalloc_kept(5000);
}

static void handed_over(int thread) {
    for (size_t i = 0; i < HANDED_OVER; i++) {
        mailboxes[thread][i] = site_malloc_handed_over(100 + i);
    }
    pthread_barrier_wait(&everybody);
    struct block *others = mailboxes[(thread + 1) % thread_count];
    for (size_t i = 0; i < HANDED_OVER - 2; i++) release(&others[i]);
    others[HANDED_OVER - 1] = site_realloc_handed_over(&others[HANDED_OVER - 1], 2222);
}

static void heap(int thread) {
    malloc_and_free();
    zeroed();
    reallocated();
    aligned();
    handed_over(thread);
}

// ------------------------------------------------------------------------------------------------
// mappings

#define PAGE ((size_t)4096)
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS)

#define MMAP_SITE(name)                                                                            \
    SITE static char *site_##name(void *at, size_t size, int flags) {                              \
        count(&calls[MMAP], 1);                                                                    \
        char *address = mmap(at, size, PROT_READ | PROT_WRITE, ANONYMOUS | flags, -1, 0);          \
        obtained(&sites[SITE_##name], address, size);                                              \
        return address;                                                                            \
    }
MMAP_SITE(mmap_kept)
MMAP_SITE(mmap_whole)
MMAP_SITE(mmap_parts)
MMAP_SITE(mmap_odd)
MMAP_SITE(mmap_reserved)
MMAP_SITE(mmap_over_a)
MMAP_SITE(mmap_over_b)
MMAP_SITE(mmap_failing)
MMAP_SITE(mmap_for_mremap)
MMAP_SITE(mmap_before)

#define MREMAP_SITE(name)                                                                          \
    SITE static char *site_##name(char *old, size_t old_size, size_t size, int flags, char *to) {  \
        count(&calls[MREMAP], 1);                                                                  \
        char *address = mremap(old, old_size, size, flags, to);                                    \
        obtained(&sites[SITE_##name], address, size);                                              \
        return address;                                                                            \
    }
MREMAP_SITE(mremap_grow)
MREMAP_SITE(mremap_shrink)
MREMAP_SITE(mremap_move)
MREMAP_SITE(mremap_failing)

SITE static void unmap(char *address, size_t size) {
    count(&calls[MUNMAP], 1);
    if (munmap(address, size) != 0) count(&voids[MUNMAP], 1);
}

static void unmapped_in_parts(void) {
    struct site *site = &sites[SITE_mmap_parts];
    char *parts = site_mmap_parts(NULL, 10 * PAGE, 0);
    unmapped(site, 2 * PAGE, 0);
    unmap(parts + 4 * PAGE, 2 * PAGE); // a hole
    unmapped(site, 4 * PAGE, 0);
    unmap(parts, 4 * PAGE); // the lower rest
    unmap(parts + 6 * PAGE + 1, PAGE); // fails: not on a page
    unmapped(site, 4 * PAGE, 1);
    unmap(parts + 6 * PAGE, 4 * PAGE); // the upper rest
}

static void mapped_over_one_another(void) {
    struct site *reserved = &sites[SITE_mmap_reserved], *a = &sites[SITE_mmap_over_a],
                *b = &sites[SITE_mmap_over_b];
    char *area = site_mmap_reserved(NULL, 32 * PAGE, 0);
    unmapped(reserved, 8 * PAGE, 0);
    site_mmap_over_a(area + 8 * PAGE, 8 * PAGE, MAP_FIXED);
    unmapped(reserved, 8 * PAGE, 0);
    site_mmap_over_b(area + 16 * PAGE, 8 * PAGE, MAP_FIXED);
    // Across the end of one and the start of the next.
    unmapped(a, 2 * PAGE, 0);
    unmapped(b, 3 * PAGE, 0);
    unmap(area + 14 * PAGE, 5 * PAGE);
    // Over all that is left of one.
    unmapped(a, 6 * PAGE, 1);
    site_mmap_over_b(area + 8 * PAGE, 6 * PAGE, MAP_FIXED);
}

static void remapped(void) {
    struct site *first = &sites[SITE_mmap_for_mremap], *grown = &sites[SITE_mremap_grow],
                *shrunk = &sites[SITE_mremap_shrink], *reserved = &sites[SITE_mmap_reserved];
    char *range = site_mmap_for_mremap(NULL, 8 * PAGE, 0);
    site_mremap_failing(range, 2 * PAGE, 4 * PAGE, 0, NULL); // the rest is in the way
    unmapped(first, 8 * PAGE, 1);
    range = site_mremap_grow(range, 8 * PAGE, 64 * PAGE, MREMAP_MAYMOVE, NULL);
    unmapped(grown, 64 * PAGE, 1);
    range = site_mremap_shrink(range, 64 * PAGE, 4 * PAGE, 0, NULL);
    char *area = site_mmap_reserved(NULL, 16 * PAGE, 0);
    unmapped(reserved, 4 * PAGE, 0);
    unmapped(shrunk, 4 * PAGE, 1);
    site_mremap_move(range, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area + 4 * PAGE);
}

static void mappings(int thread) {
    (void)thread;
    site_mmap_kept(NULL, 3 * PAGE, 0);
    for (int i = 0; i < 4; i++) {
        char *whole = site_mmap_whole(NULL, 16 * PAGE, 0);
        unmapped(&sites[SITE_mmap_whole], 16 * PAGE, 1);
        unmap(whole, 16 * PAGE);
    }
    char *odd = site_mmap_odd(NULL, 5000, 0);
    unmapped(&sites[SITE_mmap_odd], 5000, 1);
    unmap(odd, 5000);
    site_mmap_odd(NULL, 5001, 0);
    site_mmap_failing(NULL, 0, 0);
    site_mmap_failing(NULL, impossible, 0);
    unmapped_in_parts();
    mapped_over_one_another();
    remapped();
}

// ------------------------------------------------------------------------------------------------
// break

static void *const no_memory = (void *)-1;

#define SBRK_SITE(name)                                                                            \
    SITE static char *site_##name(intptr_t by) {                                                   \
        count(&calls[SBRK], 1);                                                                    \
        void *before = sbrk(by);                                                                   \
        obtained(&sites[SITE_##name], before == no_memory ? NULL : before, (size_t)by);            \
        return before;                                                                             \
    }
SBRK_SITE(sbrk_grow)
SBRK_SITE(sbrk_failing)

#define BRK_SITE(name)                                                                             \
    SITE static void site_##name(char *now, char *then) {                                          \
        count(&calls[BRK], 1);                                                                     \
        void *address = brk(then) == 0 ? now : NULL;                                               \
        obtained(&sites[SITE_##name], address, (size_t)(then - now));                              \
    }
BRK_SITE(brk_grow)
BRK_SITE(brk_failing)

SITE static void shrink_by_sbrk(intptr_t by) {
    count(&calls[SBRK], 1);
    if (sbrk(by) == no_memory || by == 0) count(&voids[SBRK], 1);
}

SITE static void shrink_by_brk(char *then) {
    count(&calls[BRK], 1);
    if (brk(then) != 0) count(&voids[BRK], 1);
}

// No malloc may happen here: the allocator takes what is on top of the break for its own.
static void program_break(int thread) {
    if (thread != 0) return;
    struct site *lower = &sites[SITE_sbrk_grow], *upper = &sites[SITE_brk_grow];
    shrink_by_sbrk(0); // only asks
    char *now = site_sbrk_grow(65536) + 65536;
    site_brk_grow(now, now + 100001);
    site_sbrk_failing((intptr_t)impossible);
    site_brk_failing(now + 100001, (char *)impossible);
    unmapped(upper, 50000, 0);
    shrink_by_sbrk(-50000);
    unmapped(upper, 50001, 1);
    unmapped(lower, 49999, 0);
    shrink_by_brk(now - 49999);
}

// ------------------------------------------------------------------------------------------------
// before, ages, many

#define BEFORE 12
static struct block blocks_before[MAX_THREADS][BEFORE];
static char *range_before[MAX_THREADS];

static void allocate_before(int thread) {
    for (size_t i = 0; i < BEFORE; i++) {
        blocks_before[thread][i] = site_malloc_before(64 + 1000 * i);
    }
    range_before[thread] = site_mmap_before(NULL, 20 * PAGE, 0);
}

// What happened up to here is before the window.
static void forget_everything(void) {
    for (int i = 0; i < SITE_COUNT; i++) {
        sites[i].allocated = sites[i].freed = sites[i].peak = (struct amount){0};
    }
    memset(calls, 0, sizeof calls);
    memset(voids, 0, sizeof voids);
    for (int thread = 0; thread < thread_count; thread++) {
        for (size_t i = 0; i < BEFORE; i++) blocks_before[thread][i].site = NULL;
    }
}

static void before(int thread) {
    struct block *blocks = blocks_before[thread];
    for (size_t i = 0; i < BEFORE - 3; i++) release(&blocks[i]);
    site_realloc_before(&blocks[BEFORE - 2], 4242);
    blocks[BEFORE - 1] = site_realloc_to_zero(&blocks[BEFORE - 1], 0);
    site_realloc_failing(&blocks[BEFORE - 3], impossible);
    count(&unmatched_unmapped_bytes, 5 * PAGE);
    unmap(range_before[thread] + PAGE, 5 * PAGE);
    struct block block = site_malloc_freed(10);
    release(&block);
}

static void ages(int thread) {
    (void)thread;
    site_malloc_old(1000);
    site_malloc_old(2000);
    sleep_ms(3000);
    site_malloc_young(3000);
}

static void many(int thread) {
    (void)thread;
    for (size_t i = 0; i < 5000; i++) site_malloc_many(32);
}

// ------------------------------------------------------------------------------------------------

struct scenario {
    const char *name;
    void (*run)(int thread);
};

static const struct scenario scenarios[] = {
    {"heap", heap}, {"mappings", mappings}, {"break", program_break},
    {"before", before}, {"ages", ages},         {"many", many},
};

static void (*run)(int thread);

// Threads are there before and after the window: making and ending them allocates.
static void *work(void *number) {
    int thread = (int)(intptr_t)number;
    allocate_before(thread);
    pthread_barrier_wait(&everybody);
    pthread_barrier_wait(&everybody); // the window opens
    run(thread);
    pthread_barrier_wait(&everybody);
    for (;;) pause();
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        if (strcmp(argv[1], scenarios[i].name) == 0) run = scenarios[i].run;
    }
    thread_count = atoi(argv[2]);
    if (run == NULL || thread_count < 1 || thread_count > MAX_THREADS) return 2;
    pthread_barrier_init(&everybody, NULL, (unsigned)thread_count);
    for (int i = 1; i < thread_count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, (void *)(intptr_t)i) != 0) return 3;
    }
    allocate_before(0);
    pthread_barrier_wait(&everybody);
    forget_everything();
    ready();
    pthread_barrier_wait(&everybody);
    run(0);
    pthread_barrier_wait(&everybody);
    send_truth(sites, SITE_COUNT);
    wait_for_line();
    _exit(0);
}
