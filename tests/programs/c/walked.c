// cflags: -O2 -fomit-frame-pointer -s
// Allocates at the bottom of stacks that only unwind information leads out of, and says what
// backtrace(3) finds there: for code of its own the offset in the file, else the module.
#include "program.h"

#include <alloca.h>
#include <dlfcn.h>
#include <execinfo.h>

enum { STACKS = 4, DEPTH = 9, MAX_FRAMES = 100 };

static void *found[STACKS][MAX_FRAMES];
static int found_frames[STACKS];
static int stack;

static void descend(int depth);

SITE static void bottom(void) {
    found_frames[stack] = backtrace(found[stack], MAX_FRAMES);
    void *volatile block = malloc(1000 + (size_t)stack);
    USED(block);
}

// A frame pointer for a frame whose size is not known beforehand.
SITE static void with_alloca(int depth) {
    char *room = alloca((size_t)depth * 24 + 40);
    USED(room);
    descend(depth - 1);
    USED(room);
}

// A stack that is realigned, so that the caller's frame is reached through memory.
SITE static void with_alignment(int depth) {
    _Alignas(128) char room[256];
    USED(room);
    descend(depth - 1);
    USED(room);
}

// A frame larger than what is read at once.
SITE static void with_large_frame(int depth) {
    char room[5000];
    USED(room);
    descend(depth - 1);
    USED(room);
}

static int descended;

static int compare(const void *one, const void *other) {
    if (!descended) {
        descended = 1;
        descend(*(const int *)one / 2 * 2);
    }
    return *(const int *)one - *(const int *)other;
}

// Through code of the C library.
SITE static void with_callback(int depth) {
    int values[2] = {depth - 1, depth - 1};
    descended = 0;
    qsort(values, 2, sizeof *values, compare);
    USED(values);
}

SITE static void descend(int depth) {
    if (depth <= 0) {
        bottom();
    } else {
        void (*const ways[])(int) = {with_alloca, with_alignment, with_large_frame, with_callback};
        ways[(depth + stack) % 4](depth);
    }
    USED(depth);
}

static void *run(void *unused) {
    descend(DEPTH + stack);
    return unused;
}

static void say_stack(int number) {
    say("%s[", number ? "," : "");
    // The first is in `bottom`, where memtrace sees another call.
    for (int index = 1; index < found_frames[number]; index++) {
        Dl_info info;
        const char *name = dladdr(found[number][index], &info) ? info.dli_fname : "";
        const char *slash = strrchr(name, '/');
        say("%s{\"module\":\"%s\",\"offset\":%llu}", index > 1 ? "," : "", slash ? slash + 1 : name,
            (unsigned long long)((char *)found[number][index] - (char *)info.dli_fbase));
    }
    say("]");
}

int main(void) {
    // The first call loads the unwinder, which allocates.
    backtrace(found[0], MAX_FRAMES);
    ready();
    for (stack = 0; stack < STACKS; stack++) {
        pthread_t thread;
        if (stack % 2 == 0) {
            run(NULL);
        } else if (pthread_create(&thread, NULL, run, NULL) || pthread_join(thread, NULL)) {
            return 3;
        }
    }
    say("[");
    for (int number = 0; number < STACKS; number++) say_stack(number);
    say("]");
    send_line();
    wait_for_line();
    return 0;
}
