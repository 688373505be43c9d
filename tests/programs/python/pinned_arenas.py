"""Small objects of which a few stay, so that hardly an arena of pymalloc's can be given back.

    work N       N objects of one line, N of another, and then N/4 of each in turns; all go but every
                 1000th. So either line has arenas of its own, and both keep some together
    drop WHICH   lets `pins` or `others` go, and says what is resident before and after
"""

import gc

import talk

OBJECT_BYTES = 200
KEPT = 1_000

kept = {}


def rss_bytes():
    with open("/proc/self/smaps_rollup") as rollup:
        kilobytes = next(line.split()[1] for line in rollup if line.startswith("Rss:"))
    return int(kilobytes) * 1024


def pin():
    return bytes(OBJECT_BYTES)


def other():
    return bytes(OBJECT_BYTES)


def line_of(function):
    code = function.__code__
    name = getattr(code, "co_qualname", code.co_name)
    return {"function": name, "file": code.co_filename, "line": code.co_firstlineno + 1}


def work(count):
    count = int(count)
    in_turns = count // 4
    pins, others = [None] * (count + in_turns), [None] * (count + in_turns)
    kept.update(pins=pins, others=others)
    for number in range(count):
        pins[number] = pin()
    for number in range(count):
        others[number] = other()
    for number in range(count, count + in_turns):
        pins[number] = pin()
        others[number] = other()
    for objects in (pins, others):
        for number in range(len(objects)):
            if number % KEPT:
                objects[number] = None
    gc.collect()
    return {"pins": line_of(pin), "others": line_of(other), "rss_bytes": rss_bytes()}


def drop(which):
    gc.collect()
    before = rss_bytes()
    objects = kept[which]
    for number in range(len(objects)):
        objects[number] = None
    gc.collect()
    return {"before_bytes": before, "after_bytes": rss_bytes()}


rss_bytes()
gc.disable()
talk.serve(work=work, drop=drop)
