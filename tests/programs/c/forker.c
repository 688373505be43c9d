// Forks children that allocate and free, and allocates itself: `forker CHILDREN`. Says what the
// parent did; the children are nobody's business.
#include "truth.h"

enum { PARENT_KEPT, PARENT_FREED, CHILD, SITE_COUNT };

static struct site sites[SITE_COUNT] = {
    {.name = "site_parent_kept", .function = MALLOC},
    {.name = "site_parent_freed", .function = MALLOC},
    {.name = "site_child", .function = MALLOC},
};

SITE static struct block site_parent_kept(size_t size) {
    count(&calls[MALLOC], 1);
    return obtained(&sites[PARENT_KEPT], malloc(size), size);
}

SITE static struct block site_parent_freed(size_t size) {
    count(&calls[MALLOC], 1);
    return obtained(&sites[PARENT_FREED], malloc(size), size);
}

SITE static void *site_child(size_t size) {
    void *block = malloc(size);
    USED(block);
    return block;
}

SITE static void release(struct block *block) {
    count(&calls[FREE], 1);
    void *address = block->address;
    released(block);
    free(address);
}

static void be_a_child(struct block *inherited) {
    free(inherited->address);
    for (size_t i = 0; i < 100; i++) free(site_child(32 + i));
    site_child(12345);
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    ready();
    for (int i = 0; i < atoi(argv[1]); i++) {
        struct block kept = site_parent_kept(1000 + (size_t)i);
        struct block freed = site_parent_freed(2000);
        pid_t child = fork();
        if (child == 0) be_a_child(&kept);
        release(&freed);
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) return 3;
    }
    send_truth(sites, SITE_COUNT);
    wait_for_line();
    _exit(0);
}
