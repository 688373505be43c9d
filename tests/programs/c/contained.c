// Runs a program as containers without root do: in a user, process and mount namespace of its own,
// as process 1, with a directory for its root: `contained ROOT PROGRAM ARGS...`
//
// Ends when the program does, and takes it along when it is killed itself.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int failed, const char *what) {
    if (failed) {
        perror(what);
        exit(3);
    }
}

static void put(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    check(file < 0 || write(file, text, strlen(text)) < 0, path);
    close(file);
}

// Root inside is the caller outside.
static void map_ids(unsigned user, unsigned group) {
    char line[64];
    snprintf(line, sizeof line, "0 %u 1\n", user);
    put("/proc/self/uid_map", line);
    put("/proc/self/setgroups", "deny");
    snprintf(line, sizeof line, "0 %u 1\n", group);
    put("/proc/self/gid_map", line);
}

static void change_root(const char *root) {
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount --make-rprivate /");
    check(mount(root, root, NULL, MS_BIND | MS_REC, NULL), root);
    check(chdir(root), root);
    check(syscall(SYS_pivot_root, ".", ".") != 0, "pivot_root");
    check(umount2(".", MNT_DETACH), "umount of the old root");
    check(chdir("/"), "chdir");
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    unsigned user = geteuid(), group = getegid();
    check(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID), "unshare");
    map_ids(user, group);
    pid_t child = fork();
    check(child < 0, "fork");
    if (child == 0) {
        check(prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl");
        change_root(argv[1]);
        execv(argv[2], &argv[2]);
        check(1, argv[2]);
    }
    int status = 0;
    check(waitpid(child, &status, 0) != child, "waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 4;
}
