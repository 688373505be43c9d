"""A server of audio streams: threads allocate, extend, copy and free buffers of mixed sizes, and
leave small long-lived objects between them. As many of these are there from the start; but once
they lie scattered, each page of an arena has one, and glibc can neither return the free memory
between them nor use it for anything larger. RSS grows, what is in use does not, nothing leaks.

    run SECONDS    works; answers with `mallinfo` (so does every command)
    bursts COUNT   so many bursts of each thread, however long they take; then the same
    turns COUNT    the same, but who goes on when is fixed: threads take turns, some buffers at a
                   time, each round of turns at its appointed time. What is allocated, in which
                   order and when is then the same in every run, under whatever allocator
    mallinfo       glibc's own sums over all arenas, and what the kernel says is resident
    trim           calls malloc_trim(0) first, and adds what that did
    --forever      works by itself, without being told
"""

import collections
import ctypes
import os
import random
import sys
import threading
import time

import talk

THREADS = 8
#: Small objects that stay, by thread.
SESSIONS = 8_000
#: Buffers at a time, by thread: frames of 20 to 60 ms of speech.
BURST = 4_000
BUFFER_BYTES = (700, 2_600)
EXTENSION_BYTES = (50, 600)
SESSION_BYTES = (600, 900)
#: Buffers of a turn, and from one round of turns to the next.
TURN = 100
ROUND_SECONDS = 0.05

libc = ctypes.CDLL(None)


def mallinfo():
    # mallinfo2 came with 2.33; before, the fields were ints and wrapped at 2 GiB.
    wide = hasattr(libc, "mallinfo2")
    field = ctypes.c_size_t if wide else ctypes.c_int
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()

    class Mallinfo(ctypes.Structure):
        _fields_ = [(name, field) for name in names]

    function = libc.mallinfo2 if wide else libc.mallinfo
    function.restype = Mallinfo
    info = function()
    return {**{name: getattr(info, name) for name in names}, "rss_bytes": rss_bytes()}


def rss_bytes():
    # smaps_rollup is exact; statm lags behind by counters that are kept per CPU.
    with open("/proc/self/smaps_rollup") as rollup:
        kilobytes = next(line.split()[1] for line in rollup if line.startswith("Rss:"))
    return int(kilobytes) * 1024


class Connection:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.sessions = collections.deque(maxlen=SESSIONS)
        for _ in range(SESSIONS):
            self.open_session()

    def open_session(self):
        self.sessions.append(bytearray(self.random.randrange(*SESSION_BYTES)))  # PINS

    def receive(self):
        buffer = bytearray(self.random.randrange(*BUFFER_BYTES))
        buffer.extend(bytes(self.random.randrange(*EXTENSION_BYTES)))
        return buffer

    def burst(self, pause=lambda: None):
        """Many buffers at once, small objects between them; the buffers go, the objects stay."""
        buffers = []
        for number in range(BURST):
            if number % TURN == 0:
                pause()
            buffers.append(self.receive())
            if number % 2:
                self.open_session()
        return sum(len(bytes(buffer[: len(buffer) // 2])) for buffer in buffers[::4])

    def work(self, until):
        while time.monotonic() < until:
            self.burst()

    def work_off(self, count):
        for _ in range(count):
            self.burst()

    def take_turns(self, count, turns):
        turns.wait()
        for _ in range(count):
            self.burst(turns.pass_on)
        turns.leave()


class Turns:
    """One thread's place in the round. Locks that are there already allocate nothing."""

    def __init__(self, own, following, is_first):
        self.own, self.following, self.is_first = own, following, is_first
        self.begun, self.round = time.monotonic(), 0

    def wait(self):
        self.own.acquire()

    def leave(self):
        self.following.release()

    def pass_on(self):
        self.leave()
        self.wait()
        if self.is_first:
            self.round += 1
            time.sleep(max(0, self.begun + self.round * ROUND_SECONDS - time.monotonic()))


connections = [Connection(seed) for seed in range(THREADS)]


def run(seconds):
    until = time.monotonic() + float(seconds)
    return together([threading.Thread(target=it.work, args=[until]) for it in connections])


def bursts(count):
    return together([threading.Thread(target=it.work_off, args=[int(count)]) for it in connections])


def turns(count):
    locks = [threading.Lock() for _ in connections]
    for lock in locks[1:]:
        lock.acquire()
    places = [Turns(own, after, own is locks[0]) for own, after in zip(locks, locks[1:] + locks[:1])]
    work = zip(connections, places)
    together([threading.Thread(target=it.take_turns, args=[int(count), place]) for it, place in work])
    # `join` comes before the kernel's end of a thread, which frees its caches.
    while len(os.listdir("/proc/self/task")) > 1:
        time.sleep(0.01)
    return mallinfo()


def together(threads):
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return mallinfo()


def trim():
    before = rss_bytes()
    trimmed = libc.malloc_trim(0)
    return {**mallinfo(), "trimmed": trimmed, "rss_before_bytes": before}


if "--forever" in sys.argv:
    print("ready", flush=True)
    while True:
        run(60)
else:
    talk.serve(run=run, bursts=bursts, turns=turns, mallinfo=mallinfo, trim=trim)
