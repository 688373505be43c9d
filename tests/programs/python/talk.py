"""How the programs here talk to their tests, and how they keep their books.

A program says `ready`, then obeys one command a line and answers each with one line of JSON. It
ends when its input ends. What it knows of an allocation it writes down in the same source line
that allocates, from the interpreter's own view of the stack:

    keep("name", bytearray(size), stack())
"""

import json
import sys

kept = {}


def serve(**commands):
    print("ready", flush=True)
    for line in iter(sys.stdin.readline, ""):
        name, *arguments = line.split()
        say(commands[name](*arguments))


def say(answer):
    print(json.dumps(answer), flush=True)


def stack():
    """The caller's stack, innermost first, as tools that look from outside should see it."""
    frames, frame = [], sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)  # qualified since 3.11
        frames.append({"function": name, "file": code.co_filename, "line": frame.f_lineno})
        frame = frame.f_back
    return frames


def keep(name, block, frames):
    """Keeps a block alive, and notes where it came from and how much was asked of malloc for it."""
    place = kept.setdefault(name, {"stack": frames, "blocks": []})
    place["blocks"].append(block)


def drop(name, count):
    del kept[name]["blocks"][:count]


def warm_up():
    # Up to Python 3.9 the first call of a function allocates its frame for good.
    keep("warm up", bytearray(1), stack())
    drop("warm up", 1)
    del kept["warm up"]


def block_bytes(block):
    # A bytearray asks for one byte more than it holds (or for more, when it grew); numpy does not.
    return block.__alloc__() if isinstance(block, bytearray) else block.nbytes


def truth():
    """What is alive, by the names given to `keep`."""
    return [
        {
            "name": name,
            **place["stack"][0],
            "stack": place["stack"],
            "survivors": {
                "count": len(place["blocks"]),
                "bytes": sum(map(block_bytes, place["blocks"])),
            },
        }
        for name, place in kept.items()
    ]


warm_up()
