"""Coroutines, generators and delegation: frames whose callers are not on the C stack for long.

    run    runs all of it once; answers with what is alive
"""

import asyncio

import talk
from talk import keep, stack


async def fetch(size):
    # It is resumed by the event loop: the first step alone would look like a plain call.
    await asyncio.sleep(0)
    keep("coroutine", bytearray(size), stack())


async def transform(size):
    await asyncio.sleep(0)
    return await fetch(size)


async def handle(size):
    for _ in range(5):
        await transform(size)


async def gathered(size):
    await asyncio.sleep(0.01)
    keep("gathered task", bytearray(size), stack())


async def stream(size):
    for _ in range(3):
        await asyncio.sleep(0)
        keep("async generator", bytearray(size), stack())
        yield size


async def serve_requests():
    await handle(70_000)
    await asyncio.gather(*(gathered(60_000) for _ in range(4)))
    async for _ in stream(50_000):
        pass
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, in_executor)


def in_executor():
    keep("executor thread", bytearray(40_000), stack())


def blocks(size, count):
    for _ in range(count):
        keep("generator", bytearray(size), stack())
        yield


def delegating(size, count):
    yield from leaf(size, count)


def leaf(size, count):
    for _ in range(count):
        keep("yield from", bytearray(size), stack())
        yield


def consume(generator):
    for _ in generator:
        pass


def run():
    asyncio.run(serve_requests())
    consume(blocks(30_000, 6))
    consume(delegating(20_000, 7))
    return talk.truth()


talk.serve(run=run)
