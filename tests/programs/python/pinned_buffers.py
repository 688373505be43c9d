"""Audio buffers come and go, and small objects that stay lie between them: what is free is trapped.

    work N       N buffers with an object behind each; then the buffers go, but for every 16th
    drop WHICH   lets `pins` or `buffers` go, calls malloc_trim(0), and says what is resident before
                 and after, as the kernel counts it page by page

No list grows or shrinks meanwhile, so that nothing but the objects is allocated and freed.
"""

import ctypes
import gc

import talk

BUFFER_BYTES = 3_000
#: More than the 512 bytes up to which pymalloc serves, so that it is malloc's.
PIN_BYTES = 600
KEPT = 16

libc = ctypes.CDLL(None)
kept = {}


def rss_bytes():
    with open("/proc/self/smaps_rollup") as rollup:
        kilobytes = next(line.split()[1] for line in rollup if line.startswith("Rss:"))
    return int(kilobytes) * 1024


def work(count):
    count = int(count)
    buffers, pins = [None] * count, [None] * count
    kept.update(buffers=buffers, pins=pins)
    frame = talk.stack()[0]
    for number in range(count):
        buffers[number] = bytearray(BUFFER_BYTES)
        pins[number] = bytes(PIN_BYTES)
    for number in range(count):
        if number % KEPT:
            buffers[number] = None
    gc.collect()
    libc.malloc_trim(0)
    line = frame["line"]
    return {
        "buffers": {**frame, "line": line + 2},
        "pins": {**frame, "line": line + 3},
        "rss_bytes": rss_bytes(),
    }


def drop(which):
    gc.collect()
    libc.malloc_trim(0)
    before = rss_bytes()
    blocks = kept[which]
    for number in range(len(blocks)):
        blocks[number] = None
    gc.collect()
    libc.malloc_trim(0)
    return {"before_bytes": before, "after_bytes": rss_bytes()}


rss_bytes()
gc.disable()
talk.serve(work=work, drop=drop)
