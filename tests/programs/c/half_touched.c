// Blocks of which only the first half is ever written to: some that malloc maps one by one, some of
// its heap. Says what the kernel counted in RSS before and after, page by page.
#include "program.h"
#include <fcntl.h>

#define MAPPED 64
#define MAPPED_BYTES (1 << 20)
#define HEAP 1024
#define HEAP_BYTES (64 << 10)

static char *blocks[MAPPED + HEAP];

SITE static char *map_block(void) {
    char *block = malloc(MAPPED_BYTES);
    memset(block, 1, MAPPED_BYTES / 2);
    return block;
}

SITE static char *heap_block(void) {
    char *block = malloc(HEAP_BYTES);
    memset(block, 2, HEAP_BYTES / 2);
    return block;
}

// By smaps_rollup: statm lags behind by counters that are kept per CPU.
static u64 rss_bytes(void) {
    char text[2048] = "";
    int file = open("/proc/self/smaps_rollup", O_RDONLY);
    ssize_t got = read(file, text, sizeof text - 1);
    close(file);
    char *rss = got > 0 ? strstr(text, "Rss:") : NULL;
    if (rss == NULL) _exit(4);
    return strtoull(rss + 4, NULL, 10) * 1024;
}

int main(void) {
    ready();
    u64 before = rss_bytes();
    for (size_t i = 0; i < MAPPED; i++) blocks[i] = map_block();
    for (size_t i = MAPPED; i < MAPPED + HEAP; i++) blocks[i] = heap_block();
    u64 after = rss_bytes();
    say("{\"before_bytes\": %lu, \"after_bytes\": %lu, \"requested_bytes\": %lu}",
        (unsigned long)before, (unsigned long)after,
        (unsigned long)MAPPED * MAPPED_BYTES + (unsigned long)HEAP * HEAP_BYTES);
    send_line();
    wait_for_line();
    return 0;
}
