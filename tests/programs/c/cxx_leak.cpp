// Leaks from C++: a mangled name, a template, an anonymous namespace. The names in the truth are
// the ones that a reader of C++ expects.
#include "program.h"
#include <cstdlib>

namespace shop {
template <typename Key> struct Cache {
    __attribute__((noinline)) void *remember(Key key, size_t size) {
        void *block = std::malloc(size + sizeof key);
        USED(block);
        return block;
    }
};
} // namespace shop

namespace {
__attribute__((noinline)) void *hidden_leak(size_t size) {
    void *block = std::malloc(size);
    USED(block);
    return block;
}
} // namespace

int main() {
    ready();
    shop::Cache<int> cache;
    for (int i = 0; i < 3; i++) cache.remember(i, 996);
    hidden_leak(77);
    say("{\"remembered_bytes\": 3000, \"hidden_bytes\": 77}");
    send_line();
    wait_for_line();
    _exit(0);
}
