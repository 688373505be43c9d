"""Runs known_lines in an interpreter of its own, which the process is given for it.

    allocate    answers with what is alive there, by the view of the one who runs it
"""

import os

try:
    import _interpreters as interpreters  # since 3.13
except ImportError:
    import _xxsubinterpreters as interpreters

import talk

run = getattr(interpreters, "exec", None) or interpreters.run_string  # `exec` since 3.13
interpreter = interpreters.create()
run(interpreter, f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})")
run(interpreter, "import known_lines")


def allocate():
    # It says the answer itself.
    run(interpreter, "known_lines.talk.say(known_lines.allocate())")


def serve():
    print("ready", flush=True)
    for _ in iter(input, ""):
        allocate()


try:
    serve()
except EOFError:
    interpreters.destroy(interpreter)
