// A program whose first allocation happens before `main`: `first THREADS`. It says at its end what it
// did, from the very beginning on.
//
// -DLIBRARY   its library: two allocations in a constructor
// -DWHOLE     the program with that library inside
// else        the program, linked with the library
#include "../c/truth.h"

enum { CONSTRUCTOR_KEPT, CONSTRUCTOR_FREED, BEFORE_MAIN, MAIN_KEPT, THREAD_KEPT, THREAD_FREED, SITES };

#define BOOKS                                                                                      \
    {                                                                                              \
        [CONSTRUCTOR_KEPT] = {.name = "site_constructor_kept", .function = MALLOC},                \
        [CONSTRUCTOR_FREED] = {.name = "site_constructor_freed", .function = CALLOC},              \
        [BEFORE_MAIN] = {.name = "site_before_main", .function = MALLOC},                          \
        [MAIN_KEPT] = {.name = "site_main_kept", .function = MALLOC},                              \
        [THREAD_KEPT] = {.name = "site_thread_kept", .function = MALLOC},                          \
        [THREAD_FREED] = {.name = "site_thread_freed", .function = MALLOC},                        \
    }

#define MALLOC_SITE(name, index)                                                                   \
    SITE static struct block site_##name(struct site *books, size_t size) {                        \
        count(&calls[MALLOC], 1);                                                                  \
        void *address = malloc(size);                                                              \
        USED(address);                                                                             \
        return obtained(&books[index], address, size);                                             \
    }

static void release(struct block block) {
    count(&calls[FREE], 1);
    free(block.address);
    released(&block);
}

#if defined(LIBRARY) || defined(WHOLE)
struct site library_books[SITES] = BOOKS;
u64 library_calls[FUNCTIONS];

MALLOC_SITE(constructor_kept, CONSTRUCTOR_KEPT)

SITE static struct block site_constructor_freed(struct site *books, size_t size) {
    count(&calls[CALLOC], 1);
    void *address = calloc(1, size);
    USED(address);
    return obtained(&books[CONSTRUCTOR_FREED], address, size);
}

__attribute__((constructor(200))) static void construct(void) {
    site_constructor_kept(library_books, 12345);
    release(site_constructor_freed(library_books, 777));
    for (int i = 0; i < FUNCTIONS; i++) library_calls[i] = calls[i];
    memset(calls, 0, sizeof calls);
}
#else
extern struct site library_books[SITES];
extern u64 library_calls[FUNCTIONS];
#endif

#ifndef LIBRARY
MALLOC_SITE(before_main, BEFORE_MAIN)
MALLOC_SITE(main_kept, MAIN_KEPT)
MALLOC_SITE(thread_kept, THREAD_KEPT)
MALLOC_SITE(thread_freed, THREAD_FREED)

__attribute__((constructor(300))) static void before_main(void) {
    site_before_main(library_books, 4321);
}

static void *work(void *unused) {
    for (int i = 0; i < 500; i++) {
        site_thread_kept(library_books, 100 + (size_t)i);
        release(site_thread_freed(library_books, 64));
    }
    return unused;
}

int main(int argc, char **argv) {
    pthread_t threads[64];
    const int thread_count = argc > 1 ? atoi(argv[1]) : 0;
    for (int i = 0; i < 10; i++) site_main_kept(library_books, 1000);
    for (int i = 0; i < thread_count; i++) pthread_create(&threads[i], NULL, work, NULL);
    for (int i = 0; i < thread_count; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < FUNCTIONS; i++) calls[i] += library_calls[i];
    send_truth(library_books, SITES);
    return 7;
}
#endif
