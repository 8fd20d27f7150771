"""Messages arrive whole, are refused when too long, and the end of the other side is noticed."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from divmon.grading.sandbox.inside.channel import Closed, TooLong, is_closed, receive, send

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.mark.parametrize("message", [b"", b"\0", os.urandom(3 << 20)])
def test_messages_arrive_whole_and_apart(pair: Pair, message: bytes) -> None:
    ours, theirs = pair
    writer = threading.Thread(target=lambda: [send(ours.fileno(), part) for part in (message, b"next")])
    writer.start()
    assert [receive(theirs.fileno()), receive(theirs.fileno())] == [message, b"next"]
    writer.join()


def test_a_long_message_is_not_read(pair: Pair) -> None:
    ours, theirs = pair
    ours.sendall(b"\xff\xff\xff\xff")
    with pytest.raises(TooLong, match=r"4,294,967,295 bytes; the limit is 9"):
        receive(theirs.fileno(), 9)


def test_the_end_is_noticed_though_there_is_something_to_read(pair: Pair) -> None:
    ours, theirs = pair
    send(ours.fileno(), b"last")
    assert not is_closed(theirs.fileno())
    ours.close()
    assert is_closed(theirs.fileno())
    assert receive(theirs.fileno()) == b"last"
    with pytest.raises(Closed):
        receive(theirs.fileno())
    with pytest.raises(Closed):
        send(theirs.fileno(), b"x")
