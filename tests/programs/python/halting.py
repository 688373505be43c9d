"""Stops at a place deep in its calls where it has just allocated, so that others can look.

    halt    allocates, answers with the stack, and stays there until the next line
"""

import sys

import talk


def wait_there(block, frames):
    talk.say(frames)
    sys.stdin.readline()
    return block


class Pipeline:
    def __init__(self, stages):
        self.stages = stages

    def run(self):
        return [stage() for stage in self.stages]


def decode():
    return wait_there(bytearray(77_000), talk.stack())


def steps():
    yield max([1], key=lambda value: len(decode()))


def halt():
    pipeline = Pipeline([lambda: list(steps())])
    return pipeline.run()


talk.serve(halt=halt)
