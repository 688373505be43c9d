// cflags: -pthread
// Makes its memory grow in the way that it is asked for, and says by how much: address space that can
// be used, and pages in use, in bytes. Every way has a function of its own. With `exec PROGRAM WAY` it
// becomes another program that does.
#include "program.h"

#include <poll.h>
#include <sys/syscall.h>

enum { READ_WRITE = PROT_READ | PROT_WRITE, ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS };
static const size_t MIB = 1 << 20;
static u64 address_space, resident;

static char *map(size_t bytes, int protection) {
    char *start = mmap(NULL, bytes, protection, ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) abort();
    // One page a touch, whatever the machine would like.
    madvise(start, bytes, MADV_NOHUGEPAGE);
    return start;
}

SITE static char *grow_and_use(size_t bytes) {
    char *start = map(bytes, READ_WRITE);
    memset(start, 1, bytes);
    USED(start);
    return start;
}

SITE static char *grow_unused(size_t bytes) {
    char *start = map(bytes, READ_WRITE);
    USED(start);
    return start;
}

// What is not there at the end, and what is moved.
static void mappings(void) {
    grow_and_use(64 * MIB);
    grow_unused(200 * MIB);
    char *unmapped = grow_and_use(40 * MIB);
    munmap(unmapped, 40 * MIB);
    char *discarded = grow_and_use(48 * MIB);
    madvise(discarded + 16 * MIB, 32 * MIB, MADV_DONTNEED);
    address_space = (64 + 200 + 48) * MIB;
    resident = (64 + 16) * MIB;
}

SITE static void grow_moved(char *start) {
    char *moved = mremap(start, 32 * MIB, 80 * MIB, MREMAP_MAYMOVE);
    if (moved == MAP_FAILED) abort();
    // What was used stays used by whoever did.
    USED(moved);
}

static void moves(void) {
    char *start = grow_and_use(32 * MIB);
    // In its way.
    mmap(start + 32 * MIB, 4096, PROT_NONE, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    grow_moved(start);
    address_space = 80 * MIB;
    resident = 32 * MIB;
}

SITE static void grow_break(size_t bytes) {
    char *start = sbrk((intptr_t)bytes);
    if (start == (char *)-1) abort();
    memset(start, 1, bytes);
}

static void program_break(void) {
    grow_break(48 * MIB);
    if (sbrk(-(intptr_t)(16 * MIB)) == (void *)-1) abort();
    address_space = 32 * MIB;
    resident = 32 * MIB;
}

// A thread's arena is a reservation, of which mprotect permits more and more.
SITE static void *grow_arena(void *unused) {
    enum { BLOCKS = 400 };
    for (int block = 0; block < BLOCKS; block++) {
        char *start = malloc(100000);
        memset(start, 1, 100000);
        USED(start);
    }
    return unused;
}

static void arena(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, grow_arena, NULL) != 0) abort();
    pthread_join(thread, NULL);
    address_space = 400 * 100000;
    resident = 400 * 100000;
}

// By no function of any library: what an allocator does that nobody knows.
SITE static void grow_by_itself(void) {
    for (int chunk = 0; chunk < 16; chunk++) {
        char *start = (char *)syscall(SYS_mmap, NULL, 4 * MIB, READ_WRITE, ANONYMOUS, -1, 0);
        madvise(start, 4 * MIB, MADV_NOHUGEPAGE);
        memset(start, 1, 4 * MIB);
        USED(start);
    }
}

static void unknown(void) {
    grow_by_itself();
    address_space = 64 * MIB;
    resident = 64 * MIB;
}

// Once more, when the test has had time to see that it was missed.
static void unknown_again(void) {
    grow_by_itself();
    say("once");
    send_line();
    wait_for_line();
    unknown();
    address_space += 64 * MIB;
    resident += 64 * MIB;
}

// Pages that the kernel uses for it, in a system call.
SITE static void grow_by_reading(char *start, size_t bytes) {
    FILE *zero = fopen("/dev/zero", "r");
    if (zero == NULL || read(fileno(zero), start, bytes) != (ssize_t)bytes) abort();
    fclose(zero);
}

static void reads(void) {
    grow_by_reading(map(48 * MIB, READ_WRITE), 48 * MIB);
    address_space = 48 * MIB;
    resident = 48 * MIB;
}

// Maps and unmaps until it is told to go on, and grows then.
static void restless(void) {
    struct pollfd line = {.fd = STDIN_FILENO, .events = POLLIN};
    say("mapping");
    send_line();
    do {
        for (int pair = 0; pair < 1000; pair++) munmap(mmap(NULL, MIB, READ_WRITE, ANONYMOUS, -1, 0), MIB);
    } while (poll(&line, 1, 0) == 0);
    wait_for_line();
    grow_and_use(32 * MIB);
    address_space = 32 * MIB;
    resident = 32 * MIB;
}

int main(int count, char **arguments) {
    struct { const char *name; void (*grow)(void); } ways[] = {
        {"mappings", mappings}, {"moves", moves}, {"break", program_break},
        {"arena", arena},       {"unknown", unknown}, {"reads", reads},
        {"unknown-again", unknown_again}, {"restless", restless},
    };
    ready();
    if (count > 3 && strcmp(arguments[1], "exec") == 0) execv(arguments[2], arguments + 2);
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
        if (count > 1 && strcmp(arguments[1], ways[way].name) == 0) ways[way].grow();
    }
    say("{\"address_space\": %lu, \"resident\": %lu}", (unsigned long)address_space,
        (unsigned long)resident);
    send_line();
    wait_for_line();
    return 0;
}
