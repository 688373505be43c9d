"""Python that is called by C that is called by Python: several runs of the interpreter's loop.

    run    runs all of it once; answers with what is alive
"""

import ctypes
import functools
import re
import threading

import talk
from talk import keep, stack


def sort_key(value):
    keep("key of sorted", bytearray(9_000), stack())
    return -value


def replacement(match):
    keep("callback of re.sub", bytearray(8_000), stack())
    return match.group().upper()


def reducer(sum_so_far, value):
    keep("callback of reduce", bytearray(7_000), stack())
    return sum_so_far + value


class Lazy:
    def __getattr__(self, name):
        keep("__getattr__", bytearray(6_000), stack())
        return name

    def __del__(self):
        keep("__del__", bytearray(5_000), stack())

    def __eq__(self, other):
        keep("__eq__ in list.index", bytearray(4_000), stack())
        return True


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
def compare(left, right):
    keep("callback of ctypes", bytearray(3_500), stack())
    return left[0] - right[0]


def call_qsort():
    numbers = (ctypes.c_int * 4)(4, 3, 2, 1)
    ctypes.CDLL(None).qsort(numbers, len(numbers), ctypes.sizeof(ctypes.c_int), compare)


def nested(value):
    return sorted([value, value + 1], key=in_nested_sort)


def in_nested_sort(value):
    keep("sorted in re.sub in sorted", bytearray(3_000), stack())
    return value


def in_thread():
    keep("thread", bytearray(2_500), stack())


def run():
    sorted(range(6), key=sort_key)
    re.sub("[aeiou]", replacement, "all about vowels")
    functools.reduce(reducer, range(5))
    lazy = Lazy()
    getattr(lazy, "missing")
    [lazy].index(object())
    del lazy
    call_qsort()
    sorted([1, 2], key=lambda value: re.sub("x", lambda match: str(nested(value)), "xx"))
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    return talk.truth()


talk.serve(run=run)
