// Something for the compiler to do for a while: heavy headers and many instances of templates.
#include <algorithm>
#include <functional>
#include <map>
#include <random>
#include <regex>
#include <sstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>

template <int N>
struct Step {
    std::map<std::string, std::tuple<int, std::variant<int, std::string>>> kept;
    std::unordered_map<int, std::function<int(int)>> functions;

    int run(int value) {
        functions[N] = [value](int more) { return value + more + N; };
        kept[std::to_string(value)] = {N, std::string("step")};
        std::vector<int> values(N % 17 + 3);
        std::generate(values.begin(), values.end(), std::minstd_rand(N));
        std::sort(values.begin(), values.end(), [](int a, int b) { return a % N < b % N; });
        if (std::regex_search(std::to_string(value), std::regex("[0-9]+"))) value++;
        return Step<N - 1>().run(functions[N](values.front()));
    }
};

template <>
struct Step<0> {
    int run(int value) { return value; }
};

int main() {
    return Step<120>().run(1);
}
