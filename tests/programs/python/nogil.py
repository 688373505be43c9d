"""Threads that allocate in C extensions which let go of the GIL, and keep what they allocated.

    run    runs all of it once; answers with the lines. How much zlib, SQLite and OpenSSL allocate is
           their affair: `survivors` has what they need at least.
"""

import hashlib
import sqlite3
import threading
import zlib

import talk

THREADS = 4
ROWS, ROW_BYTES = 200, 5_000
#: What deflate needs for its default window and memory level, from zlib's zconf.h.
DEFLATE_BYTES = (1 << (15 + 2)) + (1 << (8 + 9))

lock = threading.Lock()
places = {}
alive = []


def note(name, at_least_bytes, frames):
    with lock:
        place = places.setdefault(name, {"name": name, **frames[0], "stack": frames})
        survivors = place.setdefault("survivors", {"count": 0, "bytes": 0})
        survivors["count"] += 1
        survivors["bytes"] += at_least_bytes


def fill_database():
    database = sqlite3.connect(":memory:", check_same_thread=False)
    alive.append(database)
    database.execute("create table audio (sample blob)")
    rows = ((bytes(ROW_BYTES),) for _ in range(ROWS))
    stack = (database.executemany("insert into audio values (?)", rows), talk.stack())[1]
    note("SQLite", ROWS * ROW_BYTES, stack)


def compress():
    for _ in range(3):
        compressor, stack = zlib.compressobj(), talk.stack()
        alive.append(compressor)
        note("zlib", DEFLATE_BYTES, stack)
        compressor.compress(bytes(200_000))
    zlib.compress(bytes(1_000_000))


def digest():
    for _ in range(20):
        hashlib.sha256(bytes(100_000)).hexdigest()


def work():
    fill_database()
    compress()
    digest()


def run():
    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(places.values())


talk.serve(run=run)
