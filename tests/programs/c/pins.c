// Small long-lived blocks between large short-lived ones: free memory that nothing gives back.
//
// `pins SHAPE THREADS` fills its heap in THREADS threads (0: the main one) after the first line, and
// says "filled". After the next line it calls malloc_trim(0), frees what `session_new` allocated,
// calls malloc_trim(0) again, and says its RSS at each step. Then the same with `entry_new`.
// With `gone`, threads end before "filled"; with `old`, everything is there before the first line.
#include "program.h"

#include <fcntl.h>
#include <malloc.h>

#define MOST_THREADS 8

typedef struct {
    const char *name;
    // So many buffers in each thread, of sizes from the least to below the most.
    int buffers;
    unsigned least, most;
    // Of a hundred buffers, so many are freed.
    unsigned freed_of_100;
    // A session after so many buffers, and its size; the same of entries.
    int session_every;
    size_t session_bytes;
    int entry_every;
    size_t entry_bytes;
} Shape;

static const Shape shapes[] = {
    {"sessions", 60000, 200, 2000, 97, 10, 48, 0, 0},
    {"queue", 40000, 64, 8000, 98, 25, 600, 0, 0},
    {"mixed", 30000, 30, 4000, 99, 20, 48, 30, 1000},
    {"gone", 15000, 200, 2000, 97, 10, 48, 0, 0},
    {"old", 30000, 200, 2000, 97, 10, 48, 0, 0},
};

static const Shape *shape;
static char **sessions[MOST_THREADS], **entries[MOST_THREADS];
static pthread_barrier_t filled, finished;
static int may_end;

SITE static char *session_new(size_t bytes) {
    char *block = malloc(bytes);
    memset(block, 1, bytes);
    return block;
}

SITE static char *entry_new(size_t bytes) {
    char *block = malloc(bytes);
    memset(block, 2, bytes);
    return block;
}

SITE static char *buffer_new(size_t bytes) {
    char *block = malloc(bytes);
    memset(block, 3, bytes);
    return block;
}

static unsigned next_random(u64 *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*state >> 33);
}

static char **table(void) {
    size_t bytes = ((size_t)shape->buffers + 1) * sizeof(char *);
    return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

SITE static void fill(int thread) {
    u64 state = (u64)thread + 1;
    char **buffers = table();
    sessions[thread] = table();
    entries[thread] = table();
    int session_count = 0, entry_count = 0;
    for (int i = 0; i < shape->buffers; i++) {
        buffers[i] = buffer_new(shape->least + next_random(&state) % (shape->most - shape->least));
        if (i % shape->session_every == 0)
            sessions[thread][session_count++] = session_new(shape->session_bytes);
        if (shape->entry_every && i % shape->entry_every == 7)
            entries[thread][entry_count++] = entry_new(shape->entry_bytes);
    }
    for (int i = 0; i < shape->buffers; i++)
        if (next_random(&state) % 100 < shape->freed_of_100) free(buffers[i]);
}

static void *run(void *number) {
    fill((int)(intptr_t)number);
    pthread_barrier_wait(&filled);
    if (!may_end) pthread_barrier_wait(&finished);
    return NULL;
}

static long rss_bytes(void) {
    static char text[256];
    int file = open("/proc/self/statm", O_RDONLY);
    ssize_t got = read(file, text, sizeof text - 1);
    close(file);
    long pages = 0;
    if (got <= 0 || sscanf(text, "%*d %ld", &pages) != 1) _exit(4);
    return pages * sysconf(_SC_PAGESIZE);
}

static void free_all(char **tables[]) {
    for (int thread = 0; thread < MOST_THREADS; thread++)
        for (int i = 0; tables[thread] && tables[thread][i]; i++) free(tables[thread][i]);
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(shapes[i].name, arguments[1]) == 0) shape = &shapes[i];
    int threads = atoi(arguments[2]);
    if (!shape || threads > MOST_THREADS) return 2;
    int is_old = strcmp(shape->name, "old") == 0;
    may_end = strcmp(shape->name, "gone") == 0;
    if (is_old) fill(0);
    ready();
    static pthread_t ids[MOST_THREADS];
    pthread_barrier_init(&filled, NULL, (unsigned)threads + 1);
    pthread_barrier_init(&finished, NULL, (unsigned)threads + 1);
    for (int i = 0; i < threads; i++)
        pthread_create(&ids[i], NULL, run, (void *)(intptr_t)i);
    if (threads == 0 && !is_old) fill(0);
    pthread_barrier_wait(&filled);
    for (int i = 0; may_end && i < threads; i++) pthread_join(ids[i], NULL);
    say("filled");
    send_line();
    wait_for_line();
    long full = rss_bytes();
    malloc_trim(0);
    long trimmed = rss_bytes();
    free_all(sessions);
    malloc_trim(0);
    long without_sessions = rss_bytes();
    free_all(entries);
    malloc_trim(0);
    long without_entries = rss_bytes();
    say("{\"full\": %ld, \"trimmed\": %ld, \"without_sessions\": %ld, \"without_entries\": %ld}", full,
        trimmed, without_sessions, without_entries);
    send_line();
    wait_for_line();
    return 0;
}
