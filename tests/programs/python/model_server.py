"""A model server whose cache evicts, while an index still refers to what was evicted.

Every deployment loads the weights of a new version, about 20 MB of numpy where there is numpy (and
no `--bytearrays`), and puts the model into a cache of three. The eviction is logged; the memory
stays.

    deploy COUNT PAUSE    deploys COUNT versions, PAUSE seconds apart; answers with what is alive
    status                versions in the cache, versions alive
    --every SECONDS       deploys by itself, without being told
"""

import argparse
import itertools
import time

import talk

try:
    import numpy
except ImportError:
    numpy = None

CACHED_MODELS = 3

options = argparse.ArgumentParser()
options.add_argument("--bytes", type=int, default=20_000_000, help="weights of a model")
options.add_argument("--bytearrays", action="store_true", help="even where there is numpy")
options.add_argument("--every", type=float, help="deploy by itself, this many seconds apart")
options = options.parse_args()

versions = itertools.count(1)


class Model:
    def __init__(self, version, weights):
        self.version = version
        self.weights = weights


class ModelCache:
    """Holds the newest versions. `by_version` was added for a debug page; nobody takes out of it."""

    def __init__(self):
        self.models = {}
        self.by_version = {}

    def put(self, model):
        self.models[model.version] = self.by_version[model.version] = model
        if len(self.models) > CACHED_MODELS:
            del self.models[min(self.models)]


cache = ModelCache()


def load_model(version):
    size = options.bytes + version % 7 * 8
    if numpy is not None and not options.bytearrays:
        weights, stack = numpy.ones(size // 8), talk.stack()  # LEAK
    else:
        weights, stack = bytearray(size), talk.stack()  # LEAK
    talk.keep("weights", weights, stack)
    return Model(version, weights)


def handle_request(model):
    body = bytearray(20_000 + model.version % 100)
    body.extend(b"x" * 5_000)
    return bytes(body[:100])


def deploy(count, pause):
    for version in itertools.islice(versions, int(count)):
        model = load_model(version)
        cache.put(model)
        for _ in range(20):
            handle_request(model)
        time.sleep(float(pause))
    return talk.truth()[0]


def status():
    return {"cached": len(cache.models), "alive": len(cache.by_version)}


if options.every:
    print("ready", flush=True)
    while True:
        deploy(1, options.every)
else:
    talk.serve(deploy=deploy, status=status)
