"""A small model server with a leak, for demonstrations.

Every deployment loads new weights and puts the model into a cache; the cache "evicts" the oldest
model, but a registry still holds it. Requests meanwhile allocate and free. The weights are numpy
arrays where there is numpy, else byte arrays. Runs until it is killed, or for the number of
seconds given.
"""

import os
import sys
import time

try:
    import numpy
except ImportError:
    numpy = None

CACHED_MODELS = 3
WEIGHT_BYTES = 256 * 1024
DEPLOYMENTS_PER_SECOND = 4

cache = {}
registry = []  # the leak: nobody takes anything out


def load_weights(version):
    size = WEIGHT_BYTES + version % 7
    return numpy.ones(size, dtype=numpy.uint8) if numpy else bytearray(size)


def load_model(version):
    return {"version": version, "weights": load_weights(version), "name": b"model" * 20}


def deploy(version):
    model = load_model(version)
    registry.append(model)
    cache[version] = model
    if len(cache) > CACHED_MODELS:
        del cache[min(cache)]


def handle_request(number):
    body = bytearray(20_000 + number % 5_000)
    body.extend(b"x" * 5_000)
    return bytes(body[:100])


def main():
    until = time.monotonic() + float(sys.argv[1]) if len(sys.argv) > 1 else float("inf")
    print(f"leaker.py: pid {os.getpid()} leaks about 1 MB/s in load_weights()", flush=True)
    version = 0
    while time.monotonic() < until:
        deploy(version)
        for number in range(50):
            handle_request(number)
        version += 1
        time.sleep(1 / DEPLOYMENTS_PER_SECOND)


if __name__ == "__main__":
    main()
