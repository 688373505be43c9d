// Loads an allocator (the library given) while it is traced, and calls it by functions of its own.
#include "../c/program.h"

#include <dlfcn.h>

SITE static void *site_loaded(void *(*obtain)(size_t), size_t size) {
    void *block = obtain(size);
    USED(block);
    return block;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    ready();
    void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) return 3;
    void *(*obtain)(size_t) = (void *(*)(size_t))dlsym(library, argv[2]);
    void (*release)(void *) = (void (*)(void *))dlsym(library, argv[3]);
    if (obtain == NULL || release == NULL) return 4;
    // Until memtrace has seen it.
    say("loaded");
    send_line();
    wait_for_line();
    for (size_t i = 0; i < 50; i++) release(site_loaded(obtain, 100 + i));
    for (size_t i = 0; i < 7; i++) site_loaded(obtain, 1000);
    say("done");
    send_line();
    wait_for_line();
    return 0;
}
