"""What the tests of the server engine share: requests, a renderer, short pauses."""

from __future__ import annotations

from typing import Any

import pytest

from divmon.prompts.rendering import Renderer
from divmon.sampling import Drawing, Request
from divmon.sampling.engines.server import Server
from divmon.sampling.serving import client
from divmon.sampling.serving.client import ServerProblem
from divmon.types import Decoding, Prompt
from support import tiny
from support.scripted import Reply, Scripted, serving, words

PATH = "/v1/completions"


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(tiny.tokenizer(), chat=False)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.01)


def requests(renderer: Renderer, prompts: int = 3, samples: int = 4, **decoding: Any) -> list[Request]:
    asked = [Prompt(f"p{i}", f"what is {'one ' * i}plus two?") for i in range(prompts)]
    return [Request(renderer.render("sums", p), Decoding(**{"max_new_tokens": 12, **decoding}), samples) for p in asked]


def draw(server: Server, asked: list[Request], seed: int = 0, step: int = 0) -> Drawing:
    return server.draw(asked, seed=seed, step=step)


def problem(scripts: dict[str, Any], renderer: Renderer, **server: Any) -> str:
    with serving(scripts) as seen, pytest.raises(ServerProblem) as raised:
        draw(Server(seen.url, renderer, **server), requests(renderer))
    return str(raised.value)


def after_check(
    renderer: Renderer, seen: Scripted, asked: list[Request], timeout: float = 600, retries: int = 5, **server: Any
) -> Server:
    """A server that has been tried out while all was well."""
    made = Server(client.Client(seen.url, timeout=timeout, retries=retries), renderer, **server)
    made.check(asked)
    return made


def one(renderer: Renderer, answer: dict[str, Any], prompt: str = "what is", **decoding: Any) -> Any:
    """The sample that an answer becomes."""
    request = Request(renderer.render("sums", Prompt("p", prompt)), Decoding(12, **decoding), 1)
    drawn = [False]

    with serving({PATH: lambda body: Reply(answer) if drawn[0] else words(body)}) as seen:
        server = after_check(renderer, seen, [request])
        drawn[0] = True
        return draw(server, [request]).samples[0]
