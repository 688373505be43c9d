// Reads a file again and again: `rereads FILE BYTES [mapped]`. It writes the file first, which is charged to its
// own control group: where that may have less, the kernel has to drop pages for each that is read. Pages that are
// mapped are faults that wait for the disk.
#include "program.h"

#include <fcntl.h>

#define BUFFER_BYTES 65536

SITE static char *buffer_of_a_round(void) {
    char *buffer = malloc(BUFFER_BYTES);
    memset(buffer, 1, BUFFER_BYTES);
    return buffer;
}

static void read_mapped(int file, size_t bytes) {
    volatile char *pages = mmap(NULL, bytes, PROT_READ, MAP_SHARED, file, 0);
    // One page at a time.
    madvise((void *)pages, bytes, MADV_RANDOM);
    for (size_t at = 0;; at = (at + 4096) % bytes) (void)pages[at];
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    const int file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (long left = atol(argv[2]); left > 0; left -= BUFFER_BYTES) {
        char *buffer = buffer_of_a_round();
        if (write(file, buffer, BUFFER_BYTES) != BUFFER_BYTES) return 1;
        // Pages that wait for a slow disk cannot be dropped for the next ones.
        if (fdatasync(file) != 0) return 1;
        free(buffer);
    }
    if (argc > 3) read_mapped(file, (size_t)atol(argv[2]));
    for (;;) {
        char *buffer = buffer_of_a_round();
        lseek(file, 0, SEEK_SET);
        while (read(file, buffer, BUFFER_BYTES) > 0) {}
        free(buffer);
    }
}
