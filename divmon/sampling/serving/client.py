"""One question to a server and its answer: HTTP, time limits, tries with growing pauses."""

from __future__ import annotations

import datetime
import email.utils
import math
import random
import time
from collections.abc import Callable
from typing import Any, TypeVar

try:  # huggingface_hub brings one of the two, which are one library under two names
    import httpx2 as httpx
except ModuleNotFoundError:
    import httpx  # type: ignore[no-redef]

T = TypeVar("T")

PASSING = {408, 409, 425, 429, 500, 502, 503, 504}
"""HTTP statuses that may be gone at the next try."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before the first further try, doubled for each one after it."""


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
        timeout: seconds without a sign of life after which a try is given up.
        retries: further tries.
    """

    def __init__(self, url: str, *, api_key: str | None, timeout: float, retries: int) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url: expected an address such as 'http://localhost:8000/v1', got {url!r}")
        if self.url.count("/") == 2:
            self.url += "/v1"
        self.timeout, self.retries = timeout, retries
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout, connect=min(timeout, 10.0), pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=64),
        )
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
                return read(self._once(path, body))
            except (_Passing, Unreadable) as error:
                reason, wait = str(error), getattr(error, "wait", 0.0)
            if further + 1 < tries:
                pause = FIRST_PAUSE * 2**further * self._random.uniform(0.5, 1.0)
                self._sleep(min(max(wait, pause), LONGEST_PAUSE))
        raise Unanswered(reason if tries == 1 else f"{reason} (in the last of {tries} tries)")

    def _once(self, path: str, body: dict[str, Any] | None) -> Any:
        try:
            response = self._http.request("GET" if body is None else "POST", self.url + path, json=body)
        except httpx.TimeoutException as error:
            limit = 10.0 if isinstance(error, httpx.ConnectTimeout) else math.inf
            raise _Passing(f"no answer within {min(self.timeout, limit):g} s") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise _Passing(f"no answer: {error or type(error).__name__}") from error
        if response.status_code in PASSING:
            raise _Passing(f"HTTP {response.status_code}: {_words(response)}", _wait(response))
        if response.status_code != 200:
            raise Refused(response.status_code, _words(response))
        try:
            return response.json()
        except ValueError as error:
            raise _Passing(f"an answer that is not JSON: {response.text[:80]!r}") from error

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


def _words(response: Any) -> str:
    """What the server says went wrong."""
    try:
        said = response.json()
    except ValueError:
        said = response.text
    for key in ("error", "message", "detail"):
        if isinstance(said, dict) and key in said:
            said = said[key]
    return str(said).strip()[:300] or "(no words)"


def _wait(response: Any) -> float:
    """Seconds that the server asks to be left alone."""
    asked = response.headers.get("Retry-After", "")
    try:
        return float(asked)
    except ValueError:
        pass
    try:
        until = email.utils.parsedate_to_datetime(asked)
    except ValueError:
        return 0.0
    return (until - datetime.datetime.now(until.tzinfo)).total_seconds()
