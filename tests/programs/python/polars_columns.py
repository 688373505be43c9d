"""Keeps columns of Polars, whose allocator is linked into its library under names of its own."""

import polars
from talk import keep, serve, stack, truth

ROWS = 100_000

base = polars.Series("x", range(ROWS), dtype=polars.Float64)


class Column:
    def __init__(self, series):
        self.series = series
        self.nbytes = series.estimated_size()


def scale(count):
    # A column times one would share its memory.
    for factor in range(2, int(count) + 2):
        keep("columns", Column(base * float(factor)), stack())
        base * float(factor)
    return truth()


serve(scale=scale)
