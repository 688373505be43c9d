"""An allocation below more frames than a stack record holds.

    run DEPTH    descends; answers with what is alive
"""

import sys

import talk
from talk import keep, stack


def descend(depth):
    if depth == 0:
        keep("bottom", bytearray(90_000), stack())
    else:
        descend(depth - 1)


def run(depth):
    sys.setrecursionlimit(int(depth) + 100)
    descend(int(depth))
    return talk.truth()


talk.serve(run=run)
