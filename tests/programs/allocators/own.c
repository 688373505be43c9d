// A program that brings jemalloc along under names of its own, as Rust programs do, and calls it and
// the C library's malloc by turns.
#include "../c/program.h"

void *_rjem_malloc(size_t size);
void *_rjem_calloc(size_t count, size_t size);
void *_rjem_realloc(void *old, size_t size);
void _rjem_free(void *block);
void *_rjem_aligned_alloc(size_t alignment, size_t size);
int _rjem_posix_memalign(void **out, size_t alignment, size_t size);
void *_rjem_mallocx(size_t size, int flags);
void *_rjem_rallocx(void *old, size_t size, int flags);
size_t _rjem_xallocx(void *block, size_t size, size_t extra, int flags);
void _rjem_dallocx(void *block, int flags);
void _rjem_sdallocx(void *block, size_t size, int flags);
int _rjem_mallctl(const char *name, void *old, size_t *old_bytes, void *new_value, size_t bytes);

struct books {
    const char *name, *function;
    u64 bytes, count, freed_bytes, freed_count;
};

#define SITES(X)                                                                                   \
    X(own_malloc, "malloc") X(own_calloc, "calloc") X(own_realloc, "realloc")                      \
    X(own_aligned, "aligned_alloc") X(own_posix, "posix_memalign") X(own_mallocx, "mallocx")       \
    X(own_rallocx, "rallocx") X(own_xallocx, "xallocx") X(libc_malloc, "malloc")

enum {
#define AS_INDEX(name, function) name,
    SITES(AS_INDEX) SITE_COUNT
};
static struct books books[SITE_COUNT] = {
#define AS_ENTRY(site, called) [site] = {.name = "site_" #site, .function = called},
    SITES(AS_ENTRY)
};

static void *booked(int site, void *block, size_t size) {
    USED(block);
    if (block == NULL) abort();
    books[site].bytes += size;
    books[site].count++;
    return block;
}

static void gave_back(int site, size_t size) {
    books[site].freed_bytes += size;
    books[site].freed_count++;
}

SITE void *site_own_malloc(size_t size) { return booked(own_malloc, _rjem_malloc(size), size); }
SITE void *site_own_calloc(size_t n) { return booked(own_calloc, _rjem_calloc(n, 8), n * 8); }
SITE void *site_own_realloc(void *old, size_t size) {
    return booked(own_realloc, _rjem_realloc(old, size), size);
}
SITE void *site_own_aligned(size_t size) {
    return booked(own_aligned, _rjem_aligned_alloc(64, size), size);
}
SITE void *site_own_posix(size_t size) {
    void *block = NULL;
    if (_rjem_posix_memalign(&block, 256, size) != 0) abort();
    return booked(own_posix, block, size);
}
// MALLOCX_LG_ALIGN(6) | MALLOCX_ZERO
SITE void *site_own_mallocx(size_t size) {
    return booked(own_mallocx, _rjem_mallocx(size, 6 | 0x40), size);
}
SITE void *site_own_rallocx(void *old, size_t size) {
    return booked(own_rallocx, _rjem_rallocx(old, size, 0), size);
}
// Whether the block has the size now.
SITE int site_own_xallocx(void *block, size_t size) {
    size_t now = _rjem_xallocx(block, size, 0, 0);
    USED(now);
    return now >= size;
}
SITE void *site_libc_malloc(size_t size) { return booked(libc_malloc, malloc(size), size); }

static void one_round(size_t size) {
    void *block = site_own_malloc(size);
    gave_back(own_malloc, size);
    block = site_own_realloc(block, 3 * size);
    gave_back(own_realloc, 3 * size);
    block = site_own_rallocx(block, 5 * size);
    // Into its own size class: what is asked for is what it has then.
    gave_back(own_rallocx, 5 * size);
    if (!site_own_xallocx(block, 5 * size)) abort();
    booked(own_xallocx, block, 5 * size);
    gave_back(own_xallocx, 5 * size);
    // There is never so much room behind it, and nothing changes.
    int grew = site_own_xallocx(block, (size_t)1 << 40);
    if (grew) abort();
    _rjem_sdallocx(block, 5 * size, 0);

    gave_back(own_calloc, 8 * size);
    _rjem_dallocx(site_own_calloc(size), 0);
    gave_back(own_aligned, 64 * size);
    _rjem_free(site_own_aligned(64 * size));
    gave_back(own_posix, size);
    _rjem_free(site_own_posix(size));
    gave_back(own_mallocx, size);
    _rjem_sdallocx(site_own_mallocx(size), size, 6);
    _rjem_free(NULL);
    gave_back(libc_malloc, size);
    free(site_libc_malloc(size));
}

static void keep(size_t size) {
    site_own_malloc(size);
    site_own_mallocx(size);
    site_libc_malloc(2 * size);
}

static void send_books(void) {
    say("{\"sites\": [");
    for (int i = 0; i < SITE_COUNT; i++) {
        struct books it = books[i];
        say("%s{\"name\": \"%s\", \"function\": \"%s\", ", i ? ", " : "", it.name, it.function);
        say("\"allocated\": {\"bytes\": %lu, \"count\": %lu}, ", it.bytes, it.count);
        say("\"freed\": {\"bytes\": %lu, \"count\": %lu}, ", it.freed_bytes, it.freed_count);
        say("\"peak\": {\"bytes\": 0, \"count\": 0}, ");
        say("\"live\": {\"bytes\": %lu, \"count\": %lu}}", it.bytes - it.freed_bytes,
            it.count - it.freed_count);
    }
    say("], \"functions\": [], \"unmatched_frees\": 0, \"unmatched_unmapped_bytes\": 0}");
    send_line();
}

int main(void) {
    // By its mallctl memtrace knows it; and it is set up before the window opens.
    USED(&_rjem_mallctl);
    volatile void *mallctl = (void *)&_rjem_mallctl;
    USED(mallctl);
    _rjem_free(_rjem_malloc(1));
    ready();
    for (size_t i = 0; i < 60; i++) {
        const size_t sizes[] = {1, 17, 100, 1500, 6000};
        one_round(sizes[i % 5]);
        keep(sizes[i % 4]);
    }
    send_books();
    wait_for_line();
    return 0;
}
