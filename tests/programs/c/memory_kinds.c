// Memory of every kind that is in no heap, in known amounts; says them, and waits.
//
// What is touched is touched page by page, so that exactly that much is resident.
#include "program.h"

#define MIB ((size_t)1 << 20)
#define LIVE_THREADS 4
#define ENDED_THREADS 2
#define STACK_BYTES (256 * 1024)

static void *map(size_t bytes, int flags, int file) {
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, file, 0);
    if (memory == MAP_FAILED) abort();
    return memory;
}

static void *anonymous(size_t bytes) { return map(bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1); }

static void touch(char *memory, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 4096) ((volatile char *)memory)[at] = 1;
}

static void look_at(char *memory, size_t bytes) {
    for (size_t at = 0; at < bytes; at += 4096) (void)((volatile char *)memory)[at];
}

static int file_of(size_t bytes) {
    char path[] = "/var/tmp/memtrace-kinds-XXXXXX";
    int file = mkstemp(path);
    if (file < 0 || unlink(path) != 0 || ftruncate(file, (off_t)bytes) != 0) abort();
    // Pages of a file that was never written to are there all the same once they are read.
    return file;
}

// Huge pages where the kernel has one to spare; the whole of it is resident in any case.
static void huge(size_t bytes) {
    char *memory = anonymous(bytes + 2 * MIB);
    char *aligned = (char *)(((uintptr_t)memory + 2 * MIB - 1) & ~(2 * MIB - 1));
    madvise(aligned, bytes, MADV_HUGEPAGE);
    touch(aligned, bytes);
}

static pthread_barrier_t barrier;

static void *use_stack(void *is_to_stay) {
    char stack[STACK_BYTES];
    touch(stack, sizeof stack);
    USED(stack);
    pthread_barrier_wait(&barrier);
    if (is_to_stay) {
        for (;;) pause();
    }
    return NULL;
}

static void threads(void) {
    pthread_t threads[LIVE_THREADS + ENDED_THREADS];
    pthread_barrier_init(&barrier, NULL, LIVE_THREADS + ENDED_THREADS + 1);
    for (size_t i = 0; i < LIVE_THREADS + ENDED_THREADS; i++) {
        pthread_create(&threads[i], NULL, use_stack, i < LIVE_THREADS ? &barrier : NULL);
    }
    pthread_barrier_wait(&barrier);
    for (size_t i = LIVE_THREADS; i < LIVE_THREADS + ENDED_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
}

int main(void) {
    touch(anonymous(8 * MIB), 8 * MIB);
    look_at(anonymous(1 * MIB), 1 * MIB);
    touch(map(4 * MIB, MAP_SHARED | MAP_ANONYMOUS, -1), 4 * MIB);
    int memory_file = memfd_create("kinds", 0);
    if (memory_file < 0 || ftruncate(memory_file, 3 * MIB) != 0) abort();
    touch(map(3 * MIB, MAP_SHARED, memory_file), 3 * MIB);
    touch(map(2 * MIB, MAP_SHARED, file_of(2 * MIB)), 2 * MIB);
    touch(map(1 * MIB, MAP_PRIVATE, file_of(1 * MIB)), 1 * MIB);
    huge(4 * MIB);
    threads();
    say("ready {\"pid\": %d, \"malloc\": 0, \"free\": 0, \"realloc\": 0}", (int)getpid());
    send_line();
    wait_for_line();
    return 0;
}
