"""Lines that allocate what they say, and nothing else that malloc serves.

    allocate    runs all of it once; answers with what is alive
    --once      runs all of it, without being told, and ends
"""

import sys

import talk
from talk import keep, stack


def large():
    for _ in range(40):
        keep("large", bytearray(100_000), stack())


def medium():
    for _ in range(300):
        keep("medium", bytearray(3_000), stack())


def just_above_pymalloc():
    for _ in range(500):
        keep("just above pymalloc", bytearray(512), stack())


def half_is_freed():
    for _ in range(200):
        keep("half is freed", bytearray(10_000), stack())
    talk.drop("half is freed", 100)


def all_is_freed():
    for size in range(1_000, 2_000):
        del bytearray(size)[:1]


class Cache:
    class Entry:
        def fill(self):
            keep("method of a nested class", bytearray(50_000), stack())

    def fill(self):
        return [self.Entry().fill() for _ in range(10)]


def closure():
    def inner(size):
        keep("inner function", bytearray(size), stack())

    for _ in range(20):
        inner(7_000)


def anonymous():
    fill = lambda size: keep("lambda", bytearray(size), stack())
    for _ in range(20):
        fill(6_000)


def größe_中():
    for _ in range(10):
        keep("name beyond ASCII", bytearray(5_000), stack())


def allocate():
    all_is_freed()
    half_is_freed()
    large()
    medium()
    just_above_pymalloc()
    Cache().fill()
    closure()
    anonymous()
    größe_中()
    return talk.truth()


if __name__ == "__main__" and "--once" in sys.argv:
    talk.say(allocate())
elif __name__ == "__main__":
    talk.serve(allocate=allocate)
