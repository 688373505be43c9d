// Forks CHILDREN children that end at once, one after the other: `fork_storm CHILDREN`.
#include "program.h"

SITE static void *site_parent(size_t size) {
    void *block = malloc(size);
    USED(block);
    return block;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    ready();
    site_parent(12345);
    for (int i = 0; i < atoi(argv[1]); i++) {
        pid_t child = fork();
        if (child == 0) _exit(0);
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0) return 3;
    }
    say("done");
    send_line();
    wait_for_line();
    _exit(0);
}
