"""The library `websockets` on asyncio's own event loop: what most Python clients are."""

import asyncio
import socket
import sys
from contextlib import suppress

from common import run, tls
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedOK


async def client(options, tally):
    # Compression is offered unless it is declined; no other peer offers it. A proxy, too, is looked for unless declined.
    # The limit on a message is the default, 1 MiB.
    async with connect(options.url, ssl=tls(options), compression=None, proxy=None) as websocket:
        # asyncio's default; said here because it is part of the comparison.
        websocket.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            while not tally.is_done():
                # Bytes rather than a string: saves a copy, and orjson takes either.
                echo = tally.take(await websocket.recv(decode=False))
                if echo is not None:
                    # Fails if the server has closed meanwhile; what it sent before can still be received.
                    with suppress(ConnectionClosedOK):
                        await websocket.send(echo)
                        tally.echoes += 1
        except ConnectionClosedOK:
            pass


if __name__ == "__main__":
    sys.exit(run("python-websockets", ["websockets"], client, asyncio.run))
