"""Lines that allocate what they say of CPython's own allocator, and nothing else.

    run     runs all of it once; answers with what each line allocated, and what of it is alive
"""

import sys

import talk

COUNT = 400
KEPT = {name: [None] * COUNT for name in ("small", "limit", "large", "handed over")}
GROWN = [bytearray() for _ in range(COUNT)]
HUNDRED, SIX_HUNDRED = b"x" * 100, b"x" * 600
RANGE = list(range(COUNT))


def small(kept=KEPT["small"]):
    for i in RANGE:
        kept[i] = bytes(100)


def limit(kept=KEPT["limit"]):
    for i in RANGE:
        kept[i] = bytes(479)


def large(kept=KEPT["large"]):
    for i in RANGE:
        kept[i] = bytes(1000)


def freed():
    for i in RANGE:
        bytes(101)
        bytes(1001)


def handed_over(kept=KEPT["handed over"]):
    for i in RANGE:
        kept[i] = bytes(102)
    for i in RANGE:
        kept[i] = None


def grown(blocks=GROWN):
    for block in blocks:
        block += HUNDRED
        block += SIX_HUNDRED


def line(name, function, offset, each_bytes, live):
    """What `COUNT` allocations of a line come to; `offset` counts from the function's first."""
    code = function.__code__
    return {
        "name": name,
        "function": function.__name__,
        "file": code.co_filename,
        "line": code.co_firstlineno + offset,
        "allocated": {"count": COUNT, "bytes": COUNT * each_bytes},
        "live": {"count": COUNT * live, "bytes": COUNT * live * each_bytes},
    }


def work():
    small()
    limit()
    large()
    freed()
    handed_over()
    grown()


def run():
    work()
    sized = sys.getsizeof
    first = bytearray()
    first += HUNDRED
    return [
        line("small", small, 2, sized(bytes(100)), 1),
        line("at the limit of 512 bytes", limit, 2, sized(bytes(479)), 1),
        line("large, from malloc", large, 2, sized(bytes(1000)), 1),
        line("small and freed at once", freed, 2, sized(bytes(101)), 0),
        line("large and freed at once", freed, 3, sized(bytes(1001)), 0),
        line("freed elsewhere", handed_over, 2, sized(bytes(102)), 0),
        line("reallocated away", grown, 2, first.__alloc__(), 0),
        line("reallocated to", grown, 3, GROWN[0].__alloc__(), 1),
    ]


# Free lists of the interpreter are filled, and what functions keep of their first call is there.
work()
for blocks in KEPT.values():
    blocks[:] = [None] * COUNT
for block in GROWN:
    block.clear()
talk.serve(run=run)
