"""A server of three forked workers, of which the second keeps what it is asked for.

Says `workers PID PID PID`; they begin at SIGUSR1 and say `did PID` after 40 requests each.
"""

import os
import signal
import sys

CACHE = []


def keep(request):
    CACHE.append(bytearray(request))


def answer(request):
    return len(bytearray(request))


def serve(number):
    signal.sigwait([signal.SIGUSR1])
    for _ in range(40):
        if number == 1:
            keep(300_000)
        else:
            answer(300_000)
    os.write(1, b"did %d\n" % os.getpid())
    signal.pause()


def main():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    os.write(1, b"ready\n")
    sys.stdin.readline()
    pids = []
    for number in range(3):
        pid = os.fork()
        if pid == 0:
            serve(number)
            os._exit(0)
        pids.append(pid)
    os.write(1, b"workers %s\n" % b" ".join(b"%d" % pid for pid in pids))
    sys.stdin.readline()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


main()
