"""Becomes another program: another Python, say.

    allocate               runs known_lines; answers with what is alive
    become PROGRAM ARGS    executes it
"""

import os

import known_lines
import talk


def become(program, *arguments):
    os.execv(program, [program, *arguments])


talk.serve(allocate=known_lines.allocate, become=become)
