// A server that forks its workers beforehand: `prefork WORKERS BLOCKS`. It allocates BLOCKS blocks,
// forks after the word go, and says the pids of its workers. It frees a block of its own at the next
// word, and ends at the end of its input.
//
// At SIGUSR1 worker N allocates N + 1 blocks of 1000 bytes that it keeps and 100 that it frees, frees
// N of the blocks that it inherited, and says `did PID`. At SIGUSR2 it executes the program that
// was given as a third argument, with the argument 0.
#include <sys/prctl.h>

#include "program.h"

#define MOST 1024

static void *inherited[MOST];
static void *kept[MOST];

SITE static void *site_parent(size_t size) {
    void *block = malloc(size);
    USED(block);
    return block;
}

SITE static void *site_worker_kept(size_t size) {
    void *block = malloc(size);
    USED(block);
    return block;
}

SITE static void *site_worker_freed(size_t size) {
    void *block = malloc(size);
    USED(block);
    return block;
}

static void work(int number) {
    for (int i = 0; i <= number; i++) kept[i] = site_worker_kept(1000);
    for (int i = 0; i < 100; i++) free(site_worker_freed(2000));
    for (int i = 0; i < number; i++) free(inherited[i]);
    say("did %d", (int)getpid());
    send_line();
}

static void be_a_worker(int number, char *program) {
    // Not left behind by a test that fails.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    sigset_t orders;
    sigemptyset(&orders);
    sigaddset(&orders, SIGUSR1);
    sigaddset(&orders, SIGUSR2);
    for (;;) {
        int order = 0;
        if (sigwait(&orders, &order) != 0) _exit(3);
        if (order == SIGUSR1) work(number);
        if (order == SIGUSR2) {
            char *arguments[] = {program, "0", NULL};
            sigprocmask(SIG_UNBLOCK, &orders, NULL);
            execv(program, arguments);
            _exit(4);
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    int workers = atoi(argv[1]), blocks = atoi(argv[2]);
    if (workers > 64 || blocks > MOST) return 2;
    sigset_t orders;
    sigemptyset(&orders);
    sigaddset(&orders, SIGUSR1);
    sigaddset(&orders, SIGUSR2);
    sigprocmask(SIG_BLOCK, &orders, NULL);
    ready();
    for (int i = 0; i < blocks; i++) inherited[i] = site_parent(500);
    pid_t pids[64];
    for (int i = 0; i < workers; i++) {
        pids[i] = fork();
        if (pids[i] == 0) be_a_worker(i, argv[3]);
        if (pids[i] < 0) return 3;
    }
    say("workers");
    for (int i = 0; i < workers; i++) say(" %d", (int)pids[i]);
    send_line();
    wait_for_line();
    if (blocks > 0) free(inherited[blocks - 1]);
    say("freed");
    send_line();
    wait_for_line();
    _exit(0);
}
