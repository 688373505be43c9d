"""A pool of one worker that is forked, as Celery's and gunicorn's are.

    allocate    runs known_lines in the worker; answers with what is alive there
"""

import multiprocessing

import known_lines
import talk

with multiprocessing.get_context("fork").Pool(1) as pool:
    # Its queues have memory of their own to set up.
    pool.apply(known_lines.talk.truth)
    talk.serve(allocate=lambda: pool.apply(known_lines.allocate))
