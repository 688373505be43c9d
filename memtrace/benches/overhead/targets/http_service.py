"""A JSON service as FastAPI makes them: orders with their lines, validated on the way in and out.
Says `ready PORT`, serves until it is killed.

Usage: http_service.py [--leak]     with a leak: 1 KB a hundred times a second, by `keep_audit_trail`
"""

import os
import socket
import sys
import time

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

LEAK_EVERY_S = 0.01
LEAK_BYTES = 1024


class Line(BaseModel):
    article: str
    quantity: int
    price: float


class Order(BaseModel):
    number: int
    customer: str
    lines: list[Line]


app = FastAPI()
leaks = "--leak" in sys.argv
trail = []
last_leak = 0.0


def keep_audit_trail():
    """The planted leak."""
    global last_leak
    now = time.monotonic()
    if now - last_leak >= LEAK_EVERY_S:
        last_leak = now
        trail.append(bytearray(LEAK_BYTES))


@app.get("/orders/{number}")
async def order(number: int) -> Order:
    if leaks:
        keep_audit_trail()
    lines = [Line(article=f"article {n}", quantity=n, price=n * 1.5) for n in range(20)]
    return Order(number=number, customer=f"customer {number}", lines=lines)


class Server(uvicorn.Server):
    """Says when it serves."""

    async def startup(self, sockets=None):
        await super().startup(sockets=sockets)
        print("ready", sockets[0].getsockname()[1], flush=True)


def main():
    # asyncio answers without delay only where the protocol is named.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    Server(uvicorn.Config(app, log_level="critical", access_log=False)).run([listener])


main()
