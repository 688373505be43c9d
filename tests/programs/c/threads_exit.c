// Many short threads that allocate, free, leak a little and end: `threads_exit THREADS`. Making
// and ending threads allocates too, so only its sites are told.
#include "truth.h"

enum { KEPT, FREED, SITE_COUNT };
#define AT_ONCE 16

static struct site sites[SITE_COUNT] = {
    {.name = "site_thread_kept", .function = MALLOC},
    {.name = "site_thread_freed", .function = MALLOC},
};

SITE static struct block site_thread_kept(size_t size) {
    return obtained(&sites[KEPT], malloc(size), size);
}

SITE static struct block site_thread_freed(size_t size) {
    return obtained(&sites[FREED], malloc(size), size);
}

SITE static void release(struct block *block) {
    void *address = block->address;
    released(block);
    free(address);
}

static void *work(void *unused) {
    for (size_t i = 0; i < 20; i++) {
        struct block block = site_thread_freed(40 + i);
        release(&block);
    }
    site_thread_kept(1234);
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    ready();
    for (int left = atoi(argv[1]); left > 0; left -= AT_ONCE) {
        pthread_t threads[AT_ONCE];
        for (int i = 0; i < AT_ONCE; i++) {
            if (pthread_create(&threads[i], NULL, work, NULL) != 0) return 3;
        }
        for (int i = 0; i < AT_ONCE; i++) pthread_join(threads[i], NULL);
    }
    send_truth(sites, SITE_COUNT);
    wait_for_line();
    _exit(0);
}
