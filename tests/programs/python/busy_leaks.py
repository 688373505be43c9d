"""Busy services with a leak each, as they are met in production: so many blocks come and go that a
tracer with a budget cannot look at all of them.

    models SECONDS    requests against a model that is replaced over and over; now and then
                      `keep_version` makes one more, by the same lines, and keeps it
    pusher SECONDS    connections whose buffers are extended, copied and dropped; now and then
                      `keep_for_replay` keeps a copy

Each answers with what was kept.
"""

import os
import time

import talk

LAYER_BYTES = 16_000
REPLACED_AFTER = 50
CONNECTIONS = 50
FRAME_BYTES = (640, 1280, 2560, 5000)
PUSHED_AT_BYTES = 16_000

kept = []


class Model:
    def __init__(self):
        self.layers = [bytearray(os.urandom(LAYER_BYTES)) for _ in range(4)]

    def predict(self, features):
        for layer in self.layers:
            features = bytearray(features) + layer[:1000]
        return len(features)


def keep_version():
    kept.append(Model())


def keep_for_replay(payload):
    kept.append(bytearray(payload))


def every(seconds, keep):
    """Calls `keep` when so much time has gone by since it did so last."""
    last = time.monotonic()

    def now_and_then(*arguments):
        nonlocal last
        now = time.monotonic()
        if now - last >= seconds:
            last = now
            keep(*arguments)

    return now_and_then


def models(seconds):
    now_and_then, until, model = every(0.1, keep_version), time.monotonic() + float(seconds), Model()
    while time.monotonic() < until:
        for _ in range(REPLACED_AFTER):
            now_and_then()
            model.predict(bytearray(4096))
        model = Model()
    return {"kept": len(kept)}


def pusher(seconds):
    now_and_then, until = every(0.17, keep_for_replay), time.monotonic() + float(seconds)
    buffers = [bytearray() for _ in range(CONNECTIONS)]
    while time.monotonic() < until:
        for frame_bytes in FRAME_BYTES:
            frame = bytearray(frame_bytes)
            for number in range(CONNECTIONS):
                buffers[number].extend(bytes(frame))
                if len(buffers[number]) > PUSHED_AT_BYTES:
                    now_and_then(buffers[number])
                    bytes(buffers[number])
                    buffers[number] = bytearray()
    return {"kept": len(kept)}


talk.serve(models=models, pusher=pusher)
