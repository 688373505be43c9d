// Ends by itself: `exit_soon MS` after it was told to go, allocating until then.
#include "program.h"

SITE static void site_exit_soon(void) {
    void *block = malloc(100);
    USED(block);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    ready();
    u64 until_ns = now_ns() + (u64)(atof(argv[1]) * 1e6);
    do {
        site_exit_soon();
        sleep_ms(1);
    } while (now_ns() < until_ns);
    return 0;
}
