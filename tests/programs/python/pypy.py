"""Allocates memory of malloc on an interpreter that is not CPython.

    allocate    answers with how many bytes
"""

import ctypes

import talk

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]


def allocate():
    size, count = 1_000_000, 20
    blocks = [libc.malloc(size) for _ in range(count)]
    return size * sum(block is not None for block in blocks)


talk.serve(allocate=allocate)
