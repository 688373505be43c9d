// cflags: -O2 -fomit-frame-pointer
// Throws and catches for as many seconds as it is told, through frames that have something to
// destroy, and counts both: a tracer that disturbs the unwinding of exceptions shows in its last
// line, "THROWN CAUGHT", or in that there is none.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#define NOINLINE __attribute__((noinline))

static NOINLINE void fail(unsigned long number) {
    throw std::runtime_error("number " + std::to_string(number) + " is not to be had today");
}

static NOINLINE size_t descend(unsigned depth, unsigned long number) {
    std::vector<std::string> kept(depth % 5 + 1, std::string(40 + depth, 'x'));
    std::unique_ptr<int> owned(new int(static_cast<int>(depth)));
    if (depth == 0) fail(number);
    size_t below = descend(depth - 1, number);
    return below + kept.size() + static_cast<size_t>(*owned);
}

static NOINLINE void rethrow(unsigned depth, unsigned long number) {
    try {
        descend(depth, number);
    } catch (const std::runtime_error &error) {
        throw std::logic_error(std::string("because ") + error.what());
    }
}

struct Count {
    unsigned long thrown = 0, caught = 0;
};

static void work(std::chrono::steady_clock::time_point end, Count *count) {
    std::map<std::string, unsigned long> seen;
    while (std::chrono::steady_clock::now() < end) {
        count->thrown++;
        try {
            rethrow(static_cast<unsigned>(count->thrown % 20), count->thrown);
        } catch (const std::logic_error &error) {
            count->caught++;
            seen[std::string(error.what()).substr(0, 24)]++;
        }
        if (seen.size() > 1000) seen.clear();
    }
}

int main(int argc, char **argv) {
    auto seconds = std::chrono::seconds(argc > 1 ? std::atoi(argv[1]) : 1);
    auto end = std::chrono::steady_clock::now() + seconds;
    Count here, there;
    std::thread other(work, end, &there);
    puts("ready");
    fflush(stdout);
    work(end, &here);
    other.join();
    printf("%lu %lu\n", here.thrown + there.thrown, here.caught + there.caught);
    return 0;
}
