// Runs a program in a mount namespace and root directory of its own, which hold nothing but copies
// of the given files at the same paths: `jail EMPTY_DIRECTORY FILE... -- PROGRAM ARGS...`
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static void check(int failed, const char *what) {
    if (failed) {
        perror(what);
        exit(3);
    }
}

static void make_parents(char *path, size_t from) {
    for (char *slash = strchr(path + from + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0755);
        *slash = '/';
    }
}

static void copy(const char *from, const char *to) {
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    check(in < 0, from);
    check(out < 0, to);
    static char buffer[1 << 16];
    for (ssize_t got; (got = read(in, buffer, sizeof buffer)) > 0;) {
        check(write(out, buffer, (size_t)got) != got, to);
    }
    close(in);
    close(out);
}

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    const char *root = argv[1];
    check(unshare(CLONE_NEWNS), "unshare");
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount --make-rprivate /");
    check(mount("tmpfs", root, "tmpfs", 0, NULL), root);
    int i = 2;
    for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
        char to[4096];
        check(snprintf(to, sizeof to, "%s%s", root, argv[i]) >= (int)sizeof to, "path");
        make_parents(to, strlen(root));
        copy(argv[i], to);
    }
    if (i + 1 >= argc) return 2;
    check(chroot(root), "chroot");
    check(chdir("/"), "chdir");
    execv(argv[i + 1], &argv[i + 1]);
    check(1, argv[i + 1]);
}
