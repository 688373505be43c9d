"""Stacks that are exchanged under the interpreter: greenlets, and those of gevent's event loop.

    switch    allocates in greenlets, between switches from one to the other
    gevent    allocates in handlers, before and after they wait
"""

import gevent
import greenlet

import talk
from talk import keep, stack


def nested(size):
    keep("nested", bytearray(size), stack())


def first(other):
    nested(30_000)
    other.switch(greenlet.getcurrent())
    keep("after it was switched to", bytearray(20_000), stack())


def second(back):
    for _ in range(5):
        keep("between switches", bytearray(10_000), stack())
    back.switch()


def switch():
    for _ in range(4):
        greenlet.greenlet(first).switch(greenlet.greenlet(second))
    return talk.truth()


def handler():
    keep("before it waits", bytearray(40_000), stack())
    gevent.sleep(0.001)
    keep("after it waited", bytearray(50_000), stack())


def run_handlers():
    gevent.joinall([gevent.spawn(handler) for _ in range(8)])
    return talk.truth()


talk.serve(**{"switch": switch, "gevent": run_handlers})
