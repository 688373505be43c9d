// Reads a file again and again: `rereads FILE BYTES`. It writes the file first, which is charged to its own
// control group: where that may have less, the kernel has to drop pages for each that is read.
#include "program.h"

#include <fcntl.h>

#define BUFFER_BYTES 65536

SITE static char *buffer_of_a_round(void) {
    char *buffer = malloc(BUFFER_BYTES);
    memset(buffer, 1, BUFFER_BYTES);
    return buffer;
}

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    const int file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
    for (long left = atol(argv[2]); left > 0; left -= BUFFER_BYTES) {
        char *buffer = buffer_of_a_round();
        if (write(file, buffer, BUFFER_BYTES) != BUFFER_BYTES) return 1;
        free(buffer);
    }
    if (fdatasync(file) != 0) return 1;
    for (;;) {
        char *buffer = buffer_of_a_round();
        lseek(file, 0, SEEK_SET);
        while (read(file, buffer, BUFFER_BYTES) > 0) {}
        free(buffer);
    }
}
