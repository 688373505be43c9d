// cflags: -O2 -fomit-frame-pointer
// Throws through frames that own memory, again and again, in two threads: `cxx_throw ROUNDS`.
#include "program.h"
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>

namespace shop {
static u64 caught;

struct Block {
    void *memory;
    explicit Block(size_t size) : memory(std::malloc(size)) { USED(memory); }
    Block(const Block &) = delete;
    ~Block() { std::free(memory); }
};

__attribute__((noinline)) void check_out(int depth) {
    Block block(100 + depth);
    if (depth == 0) throw std::runtime_error(std::string(100, 'x'));
    check_out(depth - 1);
    USED(depth);
}

__attribute__((noinline)) void *keep(size_t size) {
    void *block = std::malloc(size);
    USED(block);
    return block;
}

__attribute__((noinline)) void serve(int rounds) {
    for (int i = 0; i < rounds; i++) {
        try {
            check_out(5);
        } catch (const std::runtime_error &error) {
            count(&caught, error.what()[0] == 'x');
            keep(50);
        }
    }
}
} // namespace shop

static void *thread(void *rounds) {
    shop::serve(*(int *)rounds);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int rounds = std::atoi(argv[1]);
    ready();
    pthread_t other;
    if (pthread_create(&other, NULL, thread, &rounds) != 0) abort();
    shop::serve(rounds);
    pthread_join(other, NULL);
    say("{\"caught\": %lu}", shop::caught);
    send_line();
    wait_for_line();
    _exit(0);
}
