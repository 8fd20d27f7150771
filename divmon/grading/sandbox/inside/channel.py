"""Messages over a socket: four bytes of length, then the message. The tests ask, the program answers."""

from __future__ import annotations

import os

_HEAD = 4


class Closed(Exception):
    """The other side is gone."""


class TooLong(Exception):
    """A message over the limit."""


def send(fd: int, message: bytes) -> None:
    """Writes one message. Raises Closed: nobody reads it."""
    view = memoryview(len(message).to_bytes(_HEAD, "big") + message)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        raise Closed from error


def receive(fd: int, limit: int = 2**31) -> bytes:
    """Reads one message of at most `limit` bytes. Raises Closed: the other side is gone; TooLong: the message is over
    the limit; it is not read."""
    size = int.from_bytes(_read(fd, _HEAD), "big")
    if size > limit:
        raise TooLong(f"an answer of {size:,} bytes; the limit is {limit:,}")
    return _read(fd, size)


def is_closed(fd: int) -> bool:
    """Whether the other side is gone, though what it said last may still be there to read."""
    import select

    poll = select.poll()
    poll.register(fd, 0)  # a hang-up is always told
    return bool(poll.poll(0))


def _read(fd: int, size: int) -> bytes:
    parts = []
    while size:
        try:
            part = os.read(fd, min(size, 1 << 20))
        except OSError as error:
            raise Closed from error
        if not part:
            raise Closed
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
