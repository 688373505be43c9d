// Leaves an allocator function in the middle, again and again: posix_memalign faults on its bad
// out pointer after it has allocated, and the handler jumps away. `longjmp_out TIMES`
#include "truth.h"
#include <setjmp.h>

enum { KEPT, FREED, GROWN, SITE_COUNT };

static struct site sites[SITE_COUNT] = {
    {.name = "site_after_jump_kept", .function = MALLOC},
    {.name = "site_after_jump_freed", .function = CALLOC},
    {.name = "site_after_jump_grown", .function = REALLOC},
};

static sigjmp_buf escape;
static void *volatile nowhere = (void *)8;

static void on_fault(int number) {
    (void)number;
    siglongjmp(escape, 1);
}

SITE static void leave_in_the_middle(void) {
    if (sigsetjmp(escape, 1) != 0) return;
    count(&calls[POSIX_MEMALIGN], 1);
    if (posix_memalign(nowhere, 64, 100) != 0) abort();
}

// The same, from a deeper frame, so that the next call comes from above the abandoned one.
SITE static void leave_from_below(int depth) {
    volatile char room[256];
    room[0] = (char)depth;
    if (depth > 0) {
        leave_from_below(depth - 1);
    } else {
        leave_in_the_middle();
    }
    USED(room[0]);
}

SITE static struct block site_after_jump_kept(size_t size) {
    count(&calls[MALLOC], 1);
    return obtained(&sites[KEPT], malloc(size), size);
}

SITE static struct block site_after_jump_freed(size_t size) {
    count(&calls[CALLOC], 1);
    return obtained(&sites[FREED], calloc(1, size), size);
}

SITE static struct block site_after_jump_grown(struct block *old, size_t size) {
    count(&calls[REALLOC], 1);
    void *address = realloc(old->address, size);
    if (address == NULL) abort();
    released(old);
    return obtained(&sites[GROWN], address, size);
}

// From far below the frames of the calls that were left.
SITE static void allocate(int depth) {
    volatile char room[1024];
    room[0] = (char)depth;
    if (depth > 0) {
        allocate(depth - 1);
    } else {
        site_after_jump_kept(500);
        struct block block = site_after_jump_freed(600);
        block = site_after_jump_grown(&block, 700);
        count(&calls[FREE], 1);
        void *address = block.address;
        released(&block);
        free(address);
    }
    USED(room[0]);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    struct sigaction action = {.sa_handler = on_fault, .sa_flags = SA_NODEFER};
    sigaction(SIGSEGV, &action, NULL);
    ready();
    for (int i = 0; i < atoi(argv[1]); i++) {
        leave_from_below(i % 5);
        allocate((i + 2) % 4);
    }
    send_truth(sites, SITE_COUNT);
    wait_for_line();
    _exit(0);
}
