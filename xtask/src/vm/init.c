// The first process of a test machine: mounts what memtrace reads, runs the tests, reports their
// exit status on the console and turns the machine off. Statically linked.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

static void mount_or_say(const char *type, const char *path) {
    if (mount(type, path, type, 0, NULL) != 0) perror(path);
}

static int run_tests(char **arguments) {
    pid_t tests = fork();
    if (tests == 0) {
        execv(arguments[0], arguments);
        perror(arguments[0]);
        _exit(127);
    }
    // Orphans are handed to this process too, and must be reaped.
    for (;;) {
        int status;
        pid_t ended = wait(&status);
        if (ended == tests) return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        if (ended < 0) return 126;
    }
}

int main(void) {
    mount_or_say("proc", "/proc");
    mount_or_say("sysfs", "/sys");
    mount_or_say("cgroup2", "/sys/fs/cgroup");
    mount_or_say("devtmpfs", "/dev");
    mount_or_say("tmpfs", "/tmp");

    int console = open("/dev/console", O_RDWR);
    if (console >= 0) {
        dup2(console, 0);
        dup2(console, 1);
        dup2(console, 2);
    }
    setvbuf(stdout, NULL, _IONBF, 0);

    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    printf("VM_BOOTED_MS: %ld\n", now.tv_sec * 1000 + now.tv_nsec / 1000000);

    setenv("MEMTRACE_BIN", "/memtrace", 1);
    setenv("MEMTRACE_TEST_PROGRAMS", "/programs", 1);
    setenv("MEMTRACE_TEST_SWAP", "/dev/nvme0n1", 1);
    setenv("RUST_BACKTRACE", "1", 1);

    char *arguments[] = {"/live", TEST_FILTER, "--test-threads=1", NULL};
    printf("VM_RESULT: %d\n", run_tests(arguments));
    tcdrain(1);
    sync();
    // With qemu's -no-reboot this ends the machine, and unlike power-off it needs no ACPI.
    reboot(RB_AUTOBOOT);
}
