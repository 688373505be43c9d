"""Small objects of known kinds, some freed again, and the interpreter's own account of them.

Prints the account (`sys._debugmallocstats`) to standard output between lines `account` and `end`,
and waits until its input ends. Works from Python 3.6 on.
"""

import gc
import os
import sys


class Node:
    def __init__(self, number):
        self.number = number
        self.text = "node %d of many" % number


def main():
    count = int(sys.argv[1])
    kept = [Node(number) for number in range(count)]
    # Whole pools become free, and pools with holes remain.
    del kept[count // 3 : count // 2]
    holes = [b"%d" % number for number in range(count)]
    del holes[::2]
    gc.collect()
    gc.disable()
    os.dup2(1, 2)  # The account goes to standard error.
    os.write(2, b"account\n")
    sys._debugmallocstats()
    os.write(2, b"end\n")
    os.read(0, 1)


main()
