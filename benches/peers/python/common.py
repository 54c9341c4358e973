"""What the Python peers share, so that they differ in nothing but the WebSocket library: command line, decoding, clock,
bookkeeping, trust."""

import argparse
import asyncio
import json
import math
import os
import ssl
import sys
import time
from array import array
from importlib.metadata import version

import orjson


def options():
    """The command line that all peers have, in whatever language they are written."""
    parser = argparse.ArgumentParser(
        description="A WebSocket client that measures how old messages are once they are decoded.", allow_abbrev=False
    )
    parser.add_argument("--url", required=True, help="wss://HOST:PORT/PATH or ws://HOST:PORT/PATH")
    parser.add_argument("--ca-file", metavar="PEM", help="the only certificates that are trusted")
    parser.add_argument("--count", type=positive, required=True, metavar="N", help="messages after which to close")
    parser.add_argument("--warmup", type=int, default=0, metavar="N", help="messages left out of the latency figures")
    parser.add_argument("--stamp-field", metavar="NAME", help="the field with the sender's CLOCK_MONOTONIC, in ns")
    parser.add_argument("--echo-field", metavar="NAME", help="answer messages that have this field with its number")
    parser.add_argument("--core", type=int, metavar="N", help="pin the process to this core")
    parser.add_argument("--summary", required=True, metavar="FILE", help="where the figures go, as JSON")
    parser.add_argument("--busy-poll", "--spin", action="store_true", help="never sleep while nothing arrives")
    return parser.parse_args()


def positive(text):
    if (number := int(text)) > 0:
        return number
    raise ValueError


def tls(options):
    """TLS that trusts the certificates of --ca-file and no others, and checks the name or address of the host."""
    if not options.url.startswith("wss:"):
        return None
    if options.ca_file is None:
        raise ValueError("wss:// needs --ca-file")
    return ssl.create_default_context(cafile=options.ca_file)


def keep_awake():
    """Lets the event loop find something to do whenever it looks, so that it never sleeps in its poll."""
    asyncio.get_running_loop().call_soon(keep_awake)


def decode(payload):
    """The fields a trader uses, of a message of Binance's spot streams, combined or single; prices become floats.

    Answers the whole message, the kind of event and its fields; no kind for what is not compared. The decoder is orjson:
    those who chose a Python client for its speed have it, and json of the standard library takes several times as long.
    """
    message = orjson.loads(payload)
    data = message.get("data", message)
    kind = data.get("e")
    if kind == "trade":
        fields = data["s"], data["t"], float(data["p"]), float(data["q"]), data["T"], data["m"]
    elif kind == "depthUpdate":
        kind = "depth"
        bids = [(float(price), float(quantity)) for price, quantity in data["b"]]
        asks = [(float(price), float(quantity)) for price, quantity in data["a"]]
        fields = data["s"], data["U"], data["u"], bids, asks
    elif kind is None and "B" in data:
        kind = "bookTicker"
        fields = data["s"], data["u"], float(data["b"]), float(data["B"]), float(data["a"]), float(data["A"])
    else:
        kind = fields = None
    return message, kind, fields


class Tally:
    """What has been received so far."""

    def __init__(self, options):
        self.options = options
        self.messages = self.bytes = self.echoes = self.stamps_ahead = self.measured = 0
        self.events = {"trade": 0, "bookTicker": 0, "depth": 0, "other": 0}
        # All of it now: no memory is asked for while messages are timed.
        self.latency_ns = array("q", bytes(8 * max(options.count - options.warmup, 0)))
        self.first_ns = self.last_ns = 0

    def take(self, payload):
        """Decodes a text message, looks at the clock, and counts. Answers what is to be sent back, or None."""
        message, kind, _fields = decode(payload)
        now_ns = time.monotonic_ns()

        options = self.options
        self.messages += 1
        self.bytes += len(payload)
        if self.messages == 1:
            self.first_ns = now_ns
        self.last_ns = now_ns
        if kind is None:
            self.events["other"] += 1
            return None
        self.events[kind] += 1
        if self.messages > options.warmup and (stamp_ns := message.get(options.stamp_field)) is not None:
            if now_ns >= stamp_ns:
                self.latency_ns[self.measured] = now_ns - stamp_ns
                self.measured += 1
            else:
                self.stamps_ahead += 1
        if options.echo_field is None:
            return None
        echo = message.get(options.echo_field, message.get("data", message).get(options.echo_field))
        return str(echo) if type(echo) is int else None

    def is_done(self):
        return self.messages >= self.options.count

    def write_summary(self, client, libraries, error):
        summary = {
            "client": client,
            "version": versions(libraries),
            "busy_poll": self.options.busy_poll,
            "messages": self.messages,
            "bytes": self.bytes,
            "events": self.events,
            "echoes": self.echoes,
            "stamps_ahead": self.stamps_ahead,
            "latency_ns": latency(sorted(self.latency_ns[: self.measured])),
            "first_to_last_s": (self.last_ns - self.first_ns) / 1e9,
            "cpu_seconds": time.process_time(),
            "error": error,
        }
        with open(self.options.summary, "w", encoding="utf-8") as file:
            json.dump(summary, file, indent=2)
            file.write("\n")


def latency(ordered):
    if not ordered:
        return None

    def at(per_mille):
        """The nearest rank: a value that occurred, of which at least that share is not greater."""
        return ordered[max(math.ceil(len(ordered) * per_mille / 1000), 1) - 1]

    return {
        "count": len(ordered),
        "min": ordered[0],
        "mean": sum(ordered) / len(ordered),
        "p50": at(500),
        "p90": at(900),
        "p99": at(990),
        "p999": at(999),
        "max": ordered[-1],
    }


def versions(libraries):
    python = {"python": sys.version.split()[0], "openssl": ssl.OPENSSL_VERSION.split()[1]}
    return python | {library: version(library) for library in (*libraries, "orjson")}


def run(name, libraries, client, event_loop):
    """Does everything a peer does but talk: options, pinning, the client, the summary, the exit code."""
    if sys.argv[1:] == ["--versions"]:
        print(json.dumps(versions(libraries)))
        return 0
    arguments = options()
    tally = Tally(arguments)
    error = None
    try:
        if arguments.core is not None:
            os.sched_setaffinity(0, [arguments.core])

        async def main():
            if arguments.busy_poll:
                keep_awake()
            await client(arguments, tally)

        event_loop(main())
        if not tally.is_done():
            error = f"the server closed the connection after {tally.messages} of {arguments.count} messages"
    except Exception as caught:
        error = f"{type(caught).__name__}: {caught}"
    try:
        tally.write_summary(name, libraries, error)
    except OSError as caught:
        error = error or f"cannot write the summary: {caught}"
    if error is not None:
        print(f"{name}: {error}", file=sys.stderr)
    return 0 if error is None else 1
