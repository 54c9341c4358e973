"""picows' own interface (not the one that imitates `websockets`) on uvloop: the fastest that Python has."""

import asyncio
import socket
import sys

import uvloop
from common import run, tls
from picows import WSCloseCode, WSListener, WSMsgType, ws_connect


class Listener(WSListener):
    def __init__(self, tally):
        self.tally = tally
        self.error = None

    def on_ws_frame(self, transport, frame):
        if frame.msg_type is WSMsgType.TEXT and not self.tally.is_done():
            if not frame.fin:
                raise ValueError("a message came in fragments, which picows leaves to its user")
            try:
                # The payload where it lies in the receive buffer: no copy.
                echo = self.tally.take(frame.get_payload_as_memoryview())
            except Exception as error:
                self.error = error
                transport.disconnect()
                return
            if echo is not None:
                transport.send(WSMsgType.TEXT, echo.encode())
                self.tally.echoes += 1
            if self.tally.is_done():
                transport.send_close(WSCloseCode.OK)
        elif frame.msg_type is WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()


async def client(options, tally):
    # Pings are answered by picows. Its sockets and its TLS are aiofastnet's, which it chooses by itself.
    transport, listener = await ws_connect(lambda: Listener(tally), options.url, ssl_context=tls(options))
    # aiofastnet's default; said here because it is part of the comparison.
    transport.underlying_transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    waiting = asyncio.create_task(transport.wait_disconnected())
    while not waiting.done():
        await asyncio.wait([waiting], timeout=3)
        if tally.is_done() and not waiting.done():
            transport.disconnect()
    if listener.error is not None:
        raise listener.error


if __name__ == "__main__":
    sys.exit(run("picows", ["picows", "aiofastnet", "uvloop"], client, uvloop.run))
