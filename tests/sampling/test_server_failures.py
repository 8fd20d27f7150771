"""Requests that fail on the way: asked again, given up, missing with their reason."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support.asked_server import PATH, after_check, draw, requests
from support.asked_server import renderer as renderer
from support.asked_server import short_pauses as short_pauses
from support.scripted import Reply, completion, serving, words

from divmon.prompts.rendering import Renderer
from divmon.sampling.engines.server import Server
from divmon.sampling.serving import client
from divmon.sampling.serving.client import ServerProblem, httpx


@pytest.mark.parametrize(
    "bad",
    [
        Reply({"error": "down"}, 500),
        Reply({"error": "busy"}, 503),
        Reply(b"<html>proxy</html>"),
        Reply(b'{"choices": [{"te'),
        Reply(b'{"choices": [{"te', promised=50),
        Reply({"choices": []}),
        Reply({"choices": [{"text": "half", "finish_reason": None}]}),
        Reply({"choices": [{"text": "half", "finish_reason": "abort"}]}),
        Reply([1, 2]),
        Reply(completion("late"), delay=1.5),
    ],
    ids=lambda bad: f"{bad.status}-{bad.body}-{bad.promised}-{bad.delay}",
)
def test_what_fails_once_is_asked_again(renderer: Renderer, bad: Reply) -> None:
    asked = requests(renderer)
    failing: list[Reply] = []
    with serving({PATH: lambda body: failing.pop() if failing else words(body)}) as seen:
        server = after_check(renderer, seen, asked, timeout=0.5)
        before = len(seen.bodies)
        good = draw(server, asked)
        failing += [bad] * 2
        again = draw(server, asked)
    assert again == good
    assert not again.missing
    assert len(seen.bodies) - before == 12 + 14


def test_a_server_that_asks_for_patience_gets_it(renderer: Renderer) -> None:
    asked = requests(renderer, prompts=1, samples=1)
    failing: list[Reply] = []
    with serving({PATH: lambda body: failing.pop() if failing else words(body)}) as seen:
        server = after_check(renderer, seen, asked)
        began = time.perf_counter()
        failing.append(Reply({"error": "slow down"}, 429, {"Retry-After": "1"}))
        assert len(draw(server, asked).samples) == 1
        assert 1.0 <= time.perf_counter() - began < 3.0


def test_waits_are_read_in_both_spellings_and_bounded(renderer: Renderer) -> None:
    def wait(value: str) -> float:
        return client._wait(httpx.Response(429, headers={"Retry-After": value}))

    assert wait("7") == 7.0
    assert wait("soon") == 0.0
    then = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 25 < wait(then) < 31
    pauses: list[float] = []
    with serving({PATH: lambda body: Reply({}, 429, {"Retry-After": "86400"})}) as seen:
        server = Server(seen.url, renderer)
        server.client._sleep = pauses.append
        with pytest.raises(ServerProblem, match="HTTP 429"):
            server.check(requests(renderer))
    assert pauses == [60.0, 60.0]


def test_pauses_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(client, "FIRST_PAUSE", 1.0)
    with serving({"/v1/x": lambda body: Reply({}, 500)}) as seen:
        asker = client.Client(seen.url, api_key=None, timeout=5, retries=7)
        asker._sleep = pauses.append
        with pytest.raises(client.Unanswered, match="in the last of 8 tries"):
            asker.ask("/x", {}, lambda answer: answer)
    assert all(0.5 * 2**i <= pause <= 2**i for i, pause in enumerate(pauses[:6]))
    assert len(pauses) == 7 and pauses[6] <= 60.0
    assert len({pause % 1 for pause in pauses[:6]}) > 1, "jitter, so that clients do not come back together"


def test_a_prompt_that_cannot_be_drawn_is_missing_and_the_others_go_on(renderer: Renderer) -> None:
    asked = requests(renderer)
    long, broken = list(asked[1].prompt.input_ids), list(asked[2].prompt.input_ids)
    ill = False

    def script(body: dict[str, Any]) -> Reply:
        if ill and body["prompt"] == long:
            return Reply({"error": {"message": "maximum context length is 10"}}, 400)
        return Reply({"error": "cuda"}, 500) if ill and body["prompt"] == broken else words(body)

    with serving({PATH: script}) as seen:
        server = after_check(renderer, seen, asked, retries=1, concurrency=2)
        ill = True
        drawing = draw(server, asked)
    assert [s.prompt_id for s in drawing.samples] == ["p0"] * 4
    assert drawing.missing == {
        ("sums", "p1"): "HTTP 400: maximum context length is 10",
        ("sums", "p2"): "HTTP 500: cuda (in the last of 2 tries)",
    }


def test_a_server_that_is_gone_is_not_waited_for_once_a_prompt(renderer: Renderer) -> None:
    asked = requests(renderer, prompts=40, samples=2)
    with serving({PATH: words}) as seen:
        server = after_check(renderer, seen, asked, retries=1, concurrency=4)
    tries: list[int] = []
    once = server.client._once
    server.client._once = lambda *a: (tries.append(1), once(*a))[1]  # counts, and does what it did
    drawing = draw(server, asked)
    assert not drawing.samples
    assert len(drawing.missing) == 40
    assert "no answer" in drawing.missing["sums", "p0"]
    assert drawing.missing["sums", "p39"].startswith("not asked for: ")
    assert len(tries) <= 2 * (8 + 4)
