// C++'s operators in all their variants, as served by whatever allocator is preloaded, and what they
// throw. Says per site what it obtained and what of it was given back.
#include "../c/program.h"

#include <new>

struct Books {
    const char *name, *function;
    u64 bytes, count, freed_bytes, freed_count;
};

enum { PLAIN, ARRAY, ALIGNED, ALIGNED_ARRAY, NOTHROW, NOTHROW_ARRAY, THROWN, AFTER, SITES };

static Books books[SITES] = {
    {"site_plain", "operator new", 0, 0, 0, 0},
    {"site_array", "operator new[]", 0, 0, 0, 0},
    {"site_aligned", "operator new", 0, 0, 0, 0},
    {"site_aligned_array", "operator new[]", 0, 0, 0, 0},
    {"site_nothrow", "operator new", 0, 0, 0, 0},
    {"site_nothrow_array", "operator new[]", 0, 0, 0, 0},
    {"site_thrown", "operator new", 0, 0, 0, 0},
    {"site_after", "operator new", 0, 0, 0, 0},
};

static void *booked(int site, void *block, size_t size) {
    USED(block);
    if (block != nullptr) {
        books[site].bytes += size;
        books[site].count++;
    }
    return block;
}

static void *given_back(int site, void *block, size_t size) {
    books[site].freed_bytes += size;
    books[site].freed_count++;
    return block;
}

static const std::align_val_t wide{128};

extern "C" {
SITE void *site_plain(size_t size) { return booked(PLAIN, operator new(size), size); }
SITE void *site_array(size_t size) { return booked(ARRAY, operator new[](size), size); }
SITE void *site_aligned(size_t size) { return booked(ALIGNED, operator new(size, wide), size); }
SITE void *site_aligned_array(size_t size) {
    return booked(ALIGNED_ARRAY, operator new[](size, wide), size);
}
SITE void *site_nothrow(size_t size) {
    return booked(NOTHROW, operator new(size, std::nothrow), size);
}
SITE void *site_nothrow_array(size_t size) {
    return booked(NOTHROW_ARRAY, operator new[](size, std::nothrow), size);
}
SITE void *site_thrown(size_t size) { return booked(THROWN, operator new(size), size); }
SITE void *site_after(size_t size) { return booked(AFTER, operator new(size), size); }
}

static u64 caught;
static volatile size_t impossible = (size_t)1 << 62;

static void throw_and_catch() {
    for (int i = 0; i < 20; i++) {
        try {
            site_thrown(impossible);
        } catch (const std::bad_alloc &) {
            caught++;
        }
        operator delete(given_back(AFTER, site_after(48), 48));
    }
    site_after(33);
    if (site_nothrow(impossible) != nullptr) abort();
}

static void obtain_and_give_back(size_t size) {
    operator delete(given_back(PLAIN, site_plain(size), size));
    operator delete(given_back(PLAIN, site_plain(size), size), size);
    operator delete[](given_back(ARRAY, site_array(size), size));
    operator delete[](given_back(ARRAY, site_array(size), size), size);
    operator delete(given_back(ALIGNED, site_aligned(size), size), wide);
    operator delete(given_back(ALIGNED, site_aligned(size), size), size, wide);
    operator delete[](given_back(ALIGNED_ARRAY, site_aligned_array(size), size), wide);
    operator delete[](given_back(ALIGNED_ARRAY, site_aligned_array(size), size), size, wide);
    operator delete(given_back(NOTHROW, site_nothrow(size), size), std::nothrow);
    operator delete[](given_back(NOTHROW_ARRAY, site_nothrow_array(size), size), std::nothrow);
    operator delete(nullptr);
    operator delete[](nullptr, size);
}

static void keep(size_t size) {
    site_plain(size);
    site_array(size);
    site_aligned(size);
    site_aligned_array(size);
    site_nothrow(size);
    site_nothrow_array(size);
}

static void send_books() {
    say("{\"sites\": [");
    for (int i = 0, said = 0; i < SITES; i++) {
        const Books &it = books[i];
        if (it.count == 0) continue;
        say("%s{\"name\": \"%s\", \"function\": \"%s\", ", said++ ? ", " : "", it.name,
            it.function);
        say("\"allocated\": {\"bytes\": %lu, \"count\": %lu}, ", it.bytes, it.count);
        say("\"freed\": {\"bytes\": %lu, \"count\": %lu}, ", it.freed_bytes, it.freed_count);
        say("\"peak\": {\"bytes\": 0, \"count\": 0}, ");
        say("\"live\": {\"bytes\": %lu, \"count\": %lu}}", it.bytes - it.freed_bytes,
            it.count - it.freed_count);
    }
    say("], \"functions\": [], \"unmatched_frees\": 0, \"unmatched_unmapped_bytes\": %lu}",
        caught == 20 ? 0UL : 1UL);
    send_line();
}

int main() {
    // The first exception obtains memory of its own.
    try {
        site_thrown(impossible);
    } catch (const std::bad_alloc &) {
    }
    ready();
    for (size_t i = 0; i < 40; i++) {
        const size_t sizes[] = {1, 24, 200, 1025, 5000, 70000, 1000001};
        obtain_and_give_back(sizes[i % 7]);
        keep(sizes[i % 5]);
    }
    throw_and_catch();
    send_books();
    wait_for_line();
}
