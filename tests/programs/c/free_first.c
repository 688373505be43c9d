// Threads whose first call of the allocator is a free, upon which glibc gives them an arena:
// `free_first THREADS`. Making threads allocates too, so only its site is told.
#include "truth.h"

enum { KEPT, SITE_COUNT };

static struct site sites[SITE_COUNT] = {
    {.name = "site_thread_kept", .function = MALLOC},
};

SITE static struct block site_thread_kept(size_t size) {
    return obtained(&sites[KEPT], malloc(size), size);
}

static void *work(void *block) {
    free(block);
    site_thread_kept(1000);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    ready();
    for (int left = atoi(argv[1]); left > 0; left--) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, work, malloc(100)) != 0) return 3;
        pthread_join(thread, NULL);
    }
    send_truth(sites, SITE_COUNT);
    wait_for_line();
    _exit(0);
}
