// Allocates, says what is live, and becomes another program: itself, with the argument `second`,
// which allocates again.
#include "truth.h"

enum { FIRST_KEPT, SECOND_KEPT, SITE_COUNT };

static struct site sites[SITE_COUNT] = {
    {.name = "site_first_kept", .function = MALLOC},
    {.name = "site_second_kept", .function = MALLOC},
};

SITE static void site_first_kept(size_t size) {
    count(&calls[MALLOC], 1);
    obtained(&sites[FIRST_KEPT], malloc(size), size);
}

SITE static void site_second_kept(size_t size) {
    count(&calls[MALLOC], 1);
    obtained(&sites[SECOND_KEPT], malloc(size), size);
}

int main(int argc, char **argv) {
    if (argc == 2) {
        for (size_t i = 0; i < 7; i++) site_second_kept(500 + i);
        send_truth(sites, SITE_COUNT);
        wait_for_line();
        _exit(0);
    }
    ready();
    for (size_t i = 0; i < 5; i++) site_first_kept(10000 + i);
    send_truth(sites, SITE_COUNT);
    wait_for_line();
    execl("/proc/self/exe", argv[0], "second", NULL);
    return 3;
}
