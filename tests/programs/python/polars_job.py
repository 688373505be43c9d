"""A job that tries features, one after another, and keeps what each gave: its memory grows until it
is killed. Polars brings an allocator of its own along, statically linked: malloc of the C library
sees next to nothing. Columns of whole series are computed on the thread that asks, expressions on
threads of Polars' own.

usage: polars_job.py MIB_PER_SECOND [wait]
"wait": it grows when it was sent a line
"""

import sys
import time

import polars

ROWS = 250_000
COLUMN_BYTES = ROWS * 8
# By how many columns each feature grows the job.
COLUMNS = 4

kept = []


def scale_column(series, number):
    return series * float(number)


def test_feature(base, number):
    kept.extend(scale_column(base["x"], number + k) for k in range(COLUMNS // 2))
    half = [(polars.col("x") * (number + k)).sqrt().alias(f"f{k}") for k in range(COLUMNS // 2)]
    kept.append(base.select(half))


def main():
    per_second = float(sys.argv[1]) * (1 << 20)
    base = polars.DataFrame({"x": polars.int_range(0, ROWS, eager=True).cast(polars.Float64)})
    if sys.argv[2:] == ["wait"]:
        print("waiting", flush=True)
        sys.stdin.readline()
    start = time.monotonic()
    print("growing", flush=True)
    number = 0
    while True:
        number += 1
        test_feature(base, number)
        due = start + number * COLUMNS * COLUMN_BYTES / per_second
        time.sleep(max(0.0, due - time.monotonic()))


main()
