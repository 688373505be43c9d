// cflags: -Wl,--no-as-needed -l:libdl.so.2
// Two C libraries in one process, each with a heap of its own: a second one is loaded into a
// namespace of the dynamic linker (dlmopen), as plug-in hosts do. Says what each has, as its
// mallinfo does, and waits.
//
// Up to 2.33, dlmopen is in a library of its own, which the linker would drop when it is named
// before the source.
#include "program.h"

#include <dlfcn.h>
#include <malloc.h>

enum { BLOCKS = 20000 };

// mallinfo2 is there since 2.33; before, sums are of 32 bits.
#if __GLIBC__ == 2 && __GLIBC_MINOR__ < 33
typedef struct mallinfo Info;
#define GET_INFO "mallinfo"
#else
typedef struct mallinfo2 Info;
#define GET_INFO "mallinfo2"
#endif

typedef struct {
    void *(*malloc)(size_t);
    void (*free)(void *);
    Info (*info)(void);
    void *blocks[BLOCKS];
} Library;
static Library libraries[2];

static void *find(void *handle, const char *name) {
    void *function = dlsym(handle, name);
    if (!function) abort();
    return function;
}

static void open_library(Library *library, void *handle) {
    *(void **)&library->malloc = find(handle, "malloc");
    *(void **)&library->free = find(handle, "free");
    *(void **)&library->info = find(handle, GET_INFO);
}

// Holes of every kind: some in caches of threads, some beside others, some between live blocks.
static void use(Library *library, size_t first, size_t end, size_t most_bytes) {
    for (size_t i = first; i < end; i++) {
        size_t bytes = 24 + i * 977 % most_bytes;
        memset(library->blocks[i] = library->malloc(bytes), 1, bytes);
    }
    for (size_t i = first; i < end; i++) {
        if (i % 3 != 0 && i % 7 != 1) continue;
        library->free(library->blocks[i]);
        library->blocks[i] = NULL;
    }
}

static pthread_barrier_t filled;

static void *use_both(void *unused) {
    (void)unused;
    for (size_t i = 0; i < 2; i++) use(&libraries[i], BLOCKS / 2, BLOCKS, 700 + 500 * i);
    pthread_barrier_wait(&filled);
    for (;;) pause();
    return NULL;
}

static void say_what_it_has(const Library *library) {
    Info it = library->info();
    say("{\"arena\": %lu, \"hblkhd\": %lu, \"uordblks\": %lu, \"fordblks\": %lu}", (u64)it.arena,
        (u64)it.hblkhd, (u64)it.uordblks, (u64)it.fordblks);
}

int main(void) {
    void *second = dlmopen(LM_ID_NEWLM, "libc.so.6", RTLD_NOW | RTLD_LOCAL);
    if (!second) {
        fprintf(stderr, "%s\n", dlerror());
        return 3;
    }
    open_library(&libraries[0], RTLD_DEFAULT);
    open_library(&libraries[1], second);
    for (size_t i = 0; i < 2; i++) use(&libraries[i], 0, BLOCKS / 2, 900 + 800 * i);
    pthread_t thread;
    pthread_barrier_init(&filled, NULL, 2);
    pthread_create(&thread, NULL, use_both, NULL);
    pthread_barrier_wait(&filled);
    ready();
    say("[");
    say_what_it_has(&libraries[0]);
    say(", ");
    say_what_it_has(&libraries[1]);
    say("]");
    send_line();
    wait_for_line();
    return 0;
}
