"""Python services as memtrace's targets meet them. Says `ready`, then answers each line
`time N SIZE DEPTH` with `N CPU_NS WALL_NS` for N units of its work (SIZE is not used, and DEPTH only
by `frames`), and each line `pace NS 0` likewise for as many units as fit into that time.

Usage: service.py pusher | model-server | pickle DIRECTORY-OF-BENCHMARKS | frames | pusher-leak |
       model-server-leak

The last two leak as in the incidents that memtrace is for: 100 KB a second, by `keep_for_replay`,
and 640 KB a second, by `keep_version`.
"""

import sys
import time


def every(seconds, keep):
    """Calls `keep` when so much time has gone by since it did so last."""
    last = 0.0

    def now_and_then(*arguments):
        nonlocal last
        now = time.monotonic()
        if now - last >= seconds:
            last = now
            keep(*arguments)

    return now_and_then


def pusher(leaks=False):
    """A websocket service: connections that take audio frames, extend a buffer, and push it on."""
    import asyncio

    kept = []

    def keep_for_replay(payload):
        kept.append(bytearray(payload))

    keep = every(0.17, keep_for_replay) if leaks else lambda payload: None

    class Connection:
        def __init__(self, number):
            self.number = number
            self.buffer = bytearray()

        async def receive(self, frame):
            await asyncio.sleep(0)
            self.buffer.extend(frame)
            if len(self.buffer) > 16_000:
                await self.push()

        async def push(self):
            message = self.encode(bytearray(self.buffer))
            self.buffer = bytearray()
            await asyncio.sleep(0)
            return len(message)

        def encode(self, payload):
            keep(payload)
            header = len(payload).to_bytes(8, "big")
            return bytes(header) + bytes(payload)

    async def serve(frames):
        connections = [Connection(number) for number in range(50)]
        sizes = [640, 1280, 2560, 5000]
        for number in range(frames // 50):
            frame = bytearray(sizes[number % len(sizes)])
            await asyncio.gather(*(each.receive(bytes(frame)) for each in connections))

    return lambda units: asyncio.run(serve(units * 50))


def model_server(leaks=False):
    """An inference service: requests against a few models of numpy arrays, which it reloads."""
    import numpy

    versions = []

    def keep_version(number):
        versions.append(Model(number))

    keep = every(0.1, keep_version) if leaks else lambda number: None

    class Model:
        def __init__(self, seed):
            generator = numpy.random.default_rng(seed)
            shape = (64, 64)
            self.layers = [generator.standard_normal(shape, dtype="float32") for _ in range(4)]

        def predict(self, batch):
            for layer in self.layers:
                batch = numpy.maximum(batch @ layer, 0.0)
            return self.softmax(batch)

        def softmax(self, batch):
            shifted = numpy.exp(batch - batch.max(axis=1, keepdims=True))
            return shifted / shifted.sum(axis=1, keepdims=True)

    models = {}

    def handle(number):
        keep(number)
        key = number % 4
        if key not in models or number % 100 == 0:
            models[key] = Model(number)
        features = numpy.ones((16, 64), dtype="float32") * number
        return models[key].predict(features).tolist()

    def work(units):
        for number in range(units):
            handle(number)

    return work


def pickle_benchmark(directory):
    """pyperformance's `pickle`, its own code and data."""
    import importlib.util
    import pickle
    from types import SimpleNamespace

    path = directory + "/bm_pickle/run_benchmark.py"
    specification = importlib.util.spec_from_file_location("run_benchmark", path)
    benchmark = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(benchmark)
    options = SimpleNamespace(protocol=pickle.HIGHEST_PROTOCOL)
    return lambda units: benchmark.bench_pickle(units, pickle, options)


def frames():
    """A block of malloc and its free, below DEPTH Python frames more than this function's caller."""

    def descend(units, depth):
        if depth > 0:
            return descend(units, depth - 1)
        for _ in range(units):
            bytearray(2000)

    return descend


SERVICES = {
    "frames": frames,
    "pusher": pusher,
    "pusher-leak": lambda: pusher(leaks=True),
    "model-server": model_server,
    "model-server-leak": lambda: model_server(leaks=True),
    "pickle": pickle_benchmark,
}


def for_as_long(work, duration_ns):
    """As many units as fit into that time, a few at once; returns how many."""
    until, units, at_once = time.perf_counter_ns() + duration_ns, 0, 50
    while time.perf_counter_ns() < until:
        work(at_once)
        units += at_once
    return units


def main():
    work = SERVICES[sys.argv[1]](*sys.argv[2:])
    arguments = (lambda depth: (depth,)) if sys.argv[1] == "frames" else (lambda depth: ())
    work(2, *arguments(0))
    print("ready", flush=True)
    for line in sys.stdin:
        kind, *numbers = line.split()
        units, *_, depth = map(int, numbers)
        cpu, wall = time.process_time_ns(), time.perf_counter_ns()
        if kind == "pace":
            units = for_as_long(work, units)
        else:
            work(units, *arguments(depth))
        cpu, wall = time.process_time_ns() - cpu, time.perf_counter_ns() - wall
        print(units, cpu, wall, flush=True)


main()
