"""Stops its threads at places that are hard to read from outside, and says where that is.

Prints for each thread `THREAD pthread_self` and its frames, innermost first, as
`FRAME function<TAB>file<TAB>line`; then READY. It ends with its standard input.
"""

import asyncio
import os
import sys
import threading

forever = threading.Lock()
forever.acquire()
stopped = []


def stop():
    stopped.append(threading.get_ident())
    forever.acquire()


class Outer:
    class Inner:
        def method(self, depth):
            if depth:
                return self.method(depth - 1)
            return list(self.generator())

        def generator(self):
            yield from (self.sort(number) for number in [3, 1, 2])

        def sort(self, number):
            return sorted([number, 2], key=lambda it: self.generated(it))

        def generated(self, it):
            source = (
                "def é(x):\n"
                "\n"
                "    return 中(\n"
                "        x,\n"
                "    )\n"
                "def 中(x):\n"
                "    def \U00020000(y): stop()\n"
                "    return \U00020000(x)\n"
                "é(it)\n"
            )
            exec(compile(source, "/tmp/générée 中.py", "exec"), {"stop": stop, "it": it})


class Built:
    """Its construction is specialised: the interpreter adds a frame of its own."""

    def __init__(self, last):
        self.last = last
        if last:
            stop()


def build():
    for number in range(5000):
        Built(number == 4999)


async def outer_coroutine():
    return await asyncio.gather(inner_coroutine())


async def inner_coroutine():
    async with Context():
        pass


class Context:
    async def __aenter__(self):
        await asyncio.sleep(0)
        stop()

    async def __aexit__(self, *_):
        pass


def deep(depth):
    if depth == 0:
        stop()
    else:
        deep(depth - 1)


def closure(a):
    def inner():
        nonlocal a
        try:
            raise ValueError(a)
        except ValueError as error:
            a = error
            stop()

    inner()


TARGETS = [
    lambda: Outer.Inner().method(20),
    build,
    lambda: asyncio.run(outer_coroutine()),
    lambda: deep(150),
    lambda: closure(1),
]


def frames_of(frame):
    while frame is not None:
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        yield "FRAME %s\t%s\t%d" % (name, code.co_filename, frame.f_lineno)
        frame = frame.f_back


def tell():
    while len(stopped) < len(TARGETS):
        threading.Event().wait(0.01)
    threading.Event().wait(0.1)
    lines = []
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            lines.append("THREAD %d" % ident)
            lines.extend(frames_of(frame))
    lines.append("READY\n")
    os.write(1, "\n".join(lines).encode())
    forever.acquire()


for target in TARGETS + [tell]:
    threading.Thread(target=target, daemon=True).start()
os.read(0, 1)
os._exit(0)
