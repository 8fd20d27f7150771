"""One question to a server and its answer: HTTP, limits on time and size, tries with growing pauses.

httpx asks. Its limits are between two reads, so a server that drips a byte at a time would hold a request for ever:
requests run on an event loop in a thread of their own, where one can be ended as a whole.
"""

from __future__ import annotations

import asyncio
import datetime
import email.utils
import functools
import json
import math
import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

try:  # huggingface_hub brings one of the two, which are one library under two names
    import httpx2 as httpx
except ModuleNotFoundError:
    import httpx  # type: ignore[no-redef]

from divmon.storage.redaction import redacted

T = TypeVar("T")

PASSING = {408, 409, 425, 429, 500, 502, 503, 504}
"""HTTP statuses that may be gone at the next try."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the first further try, doubled for each one after it."""
MAX_BYTES = 32 * 2**20
"""Of an answer, unpacked; that of a completion of 100,000 tokens with their ids takes two."""


class ServerProblem(RuntimeError):
    """Completions cannot be drawn from the server as they are asked for; the message says what to do."""


class Refused(Exception):
    """The server will not do what was asked, however often it is asked."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"HTTP {status}: {words}")
        self.status = status


class Unanswered(Exception):
    """No usable answer came in any of the tries; the message is the last reason."""


class Unreadable(Exception):
    """The answer is not what was asked for; the next may be."""


class _Passing(Exception):
    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Client:
    """Asks one server; any number of threads may at once.

    Args:
        url: up to and with "/v1", which is added to an address without a path.
        api_key: sent as a bearer token.
        timeout: seconds after which a try is given up, whether the server says something meanwhile or not.
        retries: further tries, with growing pauses.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, url: str, *, api_key: str | None = None, timeout: float = 600.0, retries: int = 5) -> None:
        if retries < 0 or timeout <= 0:
            raise ValueError(f"expected retries of 0 or more and a timeout above 0, got {retries} and {timeout}")
        self._address = url.rstrip("/")
        if not self._address.startswith(("http://", "https://")):
            raise ValueError(f"url: expected an address such as 'http://localhost:8000/v1', got {redacted(url)!r}")
        if self._address.count("/") == 2:
            self._address += "/v1"
        self.url = redacted(self._address)
        """For people."""
        self.timeout, self.retries = timeout, retries
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._random = random.Random()  # of its own: pauses must not move the training's generator
        self._sleep = time.sleep

    def ask(self, path: str, body: dict[str, Any] | None, read: Callable[[Any], T], *, retries: int | None = None) -> T:
        """What `read` makes of the JSON answer to a POST of `body`, or to a GET where that is None.

        Raises:
            Refused: the server says no.
            Unanswered: no try brought an answer that `read` takes; it raises Unreadable for the others.
        """
        tries = 1 + (self.retries if retries is None else retries)
        for further in range(tries):
            try:
                return _read(self._once(path, body), read)
            except (_Passing, Unreadable) as error:
                reason, wait = str(error), getattr(error, "wait", 0.0)
            if further + 1 < tries:
                pause = FIRST_PAUSE * 2**further * self._random.uniform(0.5, 1.0)
                self._sleep(min(max(wait, pause), LONGEST_PAUSE))
        raise Unanswered(reason if tries == 1 else f"{reason} (in the last of {tries} tries)")

    def _once(self, path: str, body: dict[str, Any] | None) -> Any:
        try:
            limited = asyncio.wait_for(self._answer(path, body), self.timeout)
            response, data = asyncio.run_coroutine_threadsafe(limited, _loop(os.getpid())).result()
        except TimeoutError as error:
            raise _Passing(f"no whole answer within {self.timeout:g} s") from error
        except httpx.TimeoutException as error:
            limit = 10.0 if isinstance(error, httpx.ConnectTimeout) else math.inf
            raise _Passing(f"no answer within {min(self.timeout, limit):g} s") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _Passing(f"no answer: {error or type(error).__name__}") from error
        if response.status_code in PASSING:
            raise _Passing(f"HTTP {response.status_code}: {_words(data)}", _wait(response))
        if response.status_code != 200:
            raise Refused(response.status_code, _words(data))
        try:
            return json.loads(data)
        except RecursionError as error:
            raise _Passing("an answer that is nested too deep") from error
        except ValueError as error:
            raise _Passing(f"an answer that is not JSON: {data[:80].decode(errors='replace')!r}") from error

    async def _answer(self, path: str, body: dict[str, Any] | None) -> tuple[Any, bytes]:
        """The response and its body, MAX_BYTES at most."""
        method, http = "GET" if body is None else "POST", self._http(os.getpid())
        async with http.stream(method, self._address + path, json=body) as response:
            data = bytearray()
            async for part in response.aiter_bytes():
                data += part
                if len(data) > MAX_BYTES:
                    raise _Passing(f"an answer of more than {MAX_BYTES / 2**20:.0f} MiB")
            return response, bytes(data)

    @functools.cache  # noqa: B019 - a client lives as long as its server is asked
    def _http(self, pid: int) -> Any:
        """The connections of this process; a forked one has its own."""
        return httpx.AsyncClient(
            headers=self._headers,
            timeout=httpx.Timeout(self.timeout, connect=min(self.timeout, 10.0), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )

    def models(self) -> list[str]:
        """The names of the models that the server lists; none where it lists none, or will not say."""

        def read(answer: Any) -> list[str]:
            try:
                return [str(model["id"]) for model in answer["data"]]
            except (KeyError, TypeError) as error:
                raise Unreadable("no list of models") from error

        try:
            return self.ask("/models", None, read, retries=0)
        except (Refused, Unanswered):
            return []


@functools.cache
def _loop(pid: int) -> asyncio.AbstractEventLoop:
    """The event loop of all requests of a process."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="divmon: requests", daemon=True).start()
    return loop


def _read(answer: Any, read: Callable[[Any], T]) -> T:
    """Raises Unreadable where the answer has other keys or types than `read` expects."""
    try:
        return read(answer)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise Unreadable(f"an answer of another form ({type(error).__name__}: {error})") from error


def _words(data: bytes) -> str:
    """What the server says went wrong."""
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        said = data[:300].decode(errors="replace")
    for key in ("error", "message", "detail"):
        if isinstance(said, dict) and key in said:
            said = said[key]
    return str(said).strip()[:300] or "(no words)"


def _wait(response: Any) -> float:
    """Seconds that the server asks to be left alone."""
    asked = response.headers.get("Retry-After", "")
    try:
        seconds = float(asked)
        return seconds if math.isfinite(seconds) else 0.0
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(asked)
        return (until - datetime.datetime.now(until.tzinfo)).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return 0.0
