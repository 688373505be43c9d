"""Coroutines on uvloop, an event loop that is no Python.

    run    allocates in coroutines after they waited, and in a callback
"""

import asyncio

import uvloop

import talk
from talk import keep, stack


async def load(size):
    await asyncio.sleep(0.001)
    keep("after it waited", bytearray(size), stack())


async def handle():
    keep("before it waits", bytearray(40_000), stack())
    await load(60_000)


def callback(done):
    keep("callback", bytearray(20_000), stack())
    done.set_result(None)


async def serve_all():
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(callback, done)
    await asyncio.gather(done, *[handle() for _ in range(8)])


def run():
    uvloop.run(serve_all())
    return talk.truth()


talk.serve(run=run)
