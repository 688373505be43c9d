// Allocates at the bottom of a deep recursion: `deep DEPTH`.
#include "truth.h"

static struct site sites[] = {{.name = "site_at_the_bottom", .function = MALLOC}};

SITE static void site_at_the_bottom(size_t size) {
    count(&calls[MALLOC], 1);
    obtained(&sites[0], malloc(size), size);
}

SITE static void descend(int depth) {
    if (depth > 0) {
        descend(depth - 1);
    } else {
        site_at_the_bottom(4321);
    }
    USED(depth);
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    ready();
    descend(atoi(argv[1]));
    send_truth(sites, 1);
    wait_for_line();
    _exit(0);
}
