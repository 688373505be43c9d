"""Prints line tables and what CPython itself makes of them, one code object a line:

    version first_line table(hex) runs

where runs is COUNTxLINE,... over the 2-byte code units, by PyCode_Addr2Line (-1: no line).
`for python in 3.8 ... 3.13: pythonX.Y line_tables.py >> line_tables.txt`
"""

import ctypes
import itertools
import sys
import types

MODULES = ["argparse", "asyncio.base_events", "dataclasses", "json.decoder", "typing", "zipfile"]
# Long jumps between lines and instructions, forward and backward; statements over several lines.
SYNTHETIC = (
    "def jumps(a):\n    x = (\n        a,\n" + "\n" * 300 + "        a + 1,\n    )\n"
    + "    y = [" + ", ".join("a.b%d" % i for i in range(90)) + "]\n"
    + "\n" * 140 + "    try:\n        with a as b:\n            return lambda: (x,\n\n y)\n"
    + "    except E as e:\n        raise\n    finally:\n        print(\n            a\n        )\n"
    + "\n" * 70 + "    while x:\n        for z in y: yield z\n\n        x = not x\n"
)
addr2line = ctypes.pythonapi.PyCode_Addr2Line
addr2line.argtypes = [ctypes.py_object, ctypes.c_int]


def codes(code):
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from codes(const)


def show(code):
    old = sys.version_info < (3, 10)
    table = code.co_lnotab if old else code.co_linetable
    lines = [addr2line(code, offset) for offset in range(0, len(code.co_code), 2)]
    runs = ["%dx%d" % (len(list(run)), line) for line, run in itertools.groupby(lines)]
    version = "%d.%d" % sys.version_info[:2]
    print(version, code.co_firstlineno, table.hex() or "-", ",".join(runs))


for code in codes(compile(SYNTHETIC, "synthetic", "exec")):
    show(code)
for name in MODULES:
    source = __import__(name, fromlist=["x"]).__file__
    with open(source, encoding="utf-8") as file:
        module = compile(file.read(), source, "exec")
    known = [c for c in codes(module) if len(c.co_code) < 700]
    known.sort(key=lambda code: -len(code.co_code))
    for code in known[:3]:
        show(code)
