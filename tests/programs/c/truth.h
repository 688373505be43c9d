// The books that a program keeps of its own allocations, by site and by function, with memtrace's
// definitions:
// * a site is a function of the program and the allocator's function that it calls;
// * bytes are as requested, not as rounded up;
// * `realloc` frees the old block and allocates the new one by its own site, also in place;
// * a mapping counts 1 until its last byte is unmapped, in however many pieces.
#pragma once
#include "program.h"

enum function {
    MALLOC, CALLOC, REALLOC, REALLOCARRAY, FREE, MEMALIGN, ALIGNED_ALLOC, POSIX_MEMALIGN, VALLOC,
    PVALLOC, MMAP, MUNMAP, MREMAP, BRK, SBRK, FUNCTIONS
};

static const char *const function_names[FUNCTIONS] = {
    "malloc", "calloc", "realloc", "reallocarray", "free", "memalign", "aligned_alloc",
    "posix_memalign", "valloc", "pvalloc", "mmap", "munmap", "mremap", "brk", "sbrk",
};

struct amount {
    u64 bytes, count;
};

struct site {
    const char *name;
    enum function function;
    struct amount allocated, freed, peak;
};

// Outermost calls, and those among them that failed or had nothing to do.
static u64 calls[FUNCTIONS], voids[FUNCTIONS];

// Frees of what was there before the window.
static u64 unmatched_frees, unmatched_unmapped_bytes;

// Something obtained; `site` is null when that was before the window.
struct block {
    void *address;
    size_t size;
    struct site *site;
};

static void raise_to(u64 *peak, u64 value) {
    u64 seen = __atomic_load_n(peak, __ATOMIC_RELAXED);
    const int order = __ATOMIC_RELAXED;
    while (seen < value && !__atomic_compare_exchange_n(peak, &seen, value, 0, order, order)) {}
}

// Exact where one thread uses the site.
static void note_peak(struct site *site) {
    raise_to(&site->peak.bytes, site->allocated.bytes - site->freed.bytes);
    raise_to(&site->peak.count, site->allocated.count - site->freed.count);
}

__attribute__((unused)) static struct block obtained(struct site *site, void *address,
                                                     size_t size) {
    if (address == NULL || address == MAP_FAILED) {
        count(&voids[site->function], 1);
        return (struct block){0};
    }
    count(&site->allocated.bytes, size);
    count(&site->allocated.count, 1);
    note_peak(site);
    return (struct block){address, size, site};
}

// A heap block was freed, by whomever.
__attribute__((unused)) static void released(struct block *block) {
    if (block->site == NULL) {
        count(&unmatched_frees, 1);
    } else {
        count(&block->site->freed.bytes, block->size);
        count(&block->site->freed.count, 1);
    }
    *block = (struct block){0};
}

// Part of a mapping was unmapped; `last` when nothing of it is left.
__attribute__((unused)) static void unmapped(struct site *site, u64 bytes, int last) {
    count(&site->freed.bytes, bytes);
    count(&site->freed.count, last ? 1 : 0);
}

static void say_amount(const char *name, u64 bytes, u64 blocks, const char *end) {
    say("\"%s\": {\"bytes\": %lu, \"count\": %lu}%s", name, bytes, blocks, end);
}

static void say_site(const struct site *site) {
    say("{\"name\": \"%s\", \"function\": \"%s\", ", site->name, function_names[site->function]);
    say_amount("allocated", site->allocated.bytes, site->allocated.count, ", ");
    say_amount("freed", site->freed.bytes, site->freed.count, ", ");
    say_amount("peak", site->peak.bytes, site->peak.count, ", ");
    say_amount("live", site->allocated.bytes - site->freed.bytes,
               site->allocated.count - site->freed.count, "}");
}

// Sends the books.
__attribute__((unused)) static void send_truth(const struct site *sites, size_t site_count) {
    say("{\"sites\": [");
    for (size_t i = 0, said = 0; i < site_count; i++) {
        if (sites[i].allocated.count == 0) continue;
        if (said++ > 0) say(", ");
        say_site(&sites[i]);
    }
    say("], \"functions\": [");
    for (int i = 0; i < FUNCTIONS; i++) {
        say("%s{\"function\": \"%s\", \"calls\": %lu, \"void\": %lu}", i ? ", " : "",
            function_names[i], calls[i], voids[i]);
    }
    say("], \"unmatched_frees\": %lu, \"unmatched_unmapped_bytes\": %lu}", unmatched_frees,
        unmatched_unmapped_bytes);
    send_line();
}
