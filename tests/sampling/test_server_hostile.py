"""Servers that would hold or fill the process."""

from __future__ import annotations

import re
import time

import pytest
from support.asked_server import PATH, requests
from support.asked_server import renderer as renderer
from support.asked_server import short_pauses as short_pauses
from support.scripted import Reply, completion, serving

from divmon.prompts.rendering import Renderer
from divmon.sampling.engines.server import Server
from divmon.sampling.serving import client
from divmon.sampling.serving.client import ServerProblem

HOSTILE = {
    "a head that drips": (Reply(drip=0.02), "no whole answer within 0.4 s"),
    "a body without end": (Reply(flood=1 << 31), "an answer of more than 32 MiB"),
    "an answer that never comes": (Reply(completion("x"), delay=2), "no (whole )?answer within 0.4 s"),
    "deep JSON": (Reply(b"[" * 200_000), "nested too deep"),
    "no JSON": (Reply(b"<html>"), "not JSON"),
    "a list": (Reply([]), "without a completion"),
    "choices of a number": (Reply({"choices": 3}), ""),
    "a text of a number": (Reply({"choices": [{"text": 3, "finish_reason": "stop"}]}), ""),
    "tokens of a text": (Reply(completion("x", tokens="many")), ""),  # type: ignore[arg-type]
    "a pause that is no number": (Reply({"error": "x"}, 503, {"Retry-After": "nan"}), "HTTP 503: x"),
    "a pause in another age": (Reply({"error": "x"}, 503, {"Retry-After": "Mon, 99 Foo 9999"}), "HTTP 503: x"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_server_costs_its_answer_and_little_else(renderer: Renderer, name: str) -> None:
    reply, expected = HOSTILE[name]
    writer = Server("http://127.0.0.1:9", renderer).writer
    with serving({PATH: lambda body: reply}) as seen:
        began = time.monotonic()
        asked = client.Client(seen.url, api_key=None, timeout=30 if reply.flood else 0.4, retries=0)
        try:
            answer = asked.ask("/completions", {}, writer.read)
        except client.Unanswered as error:
            assert re.search(expected, str(error)), str(error)
        else:
            assert not expected and isinstance(answer.text, str), "what can be read is what it should be"
        assert time.monotonic() - began < 20
        assert seen.flooded < 200 << 20


def test_credentials_of_an_address_are_in_no_message(renderer: Renderer, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(client.Client("http://me:hunter2@127.0.0.1:9/v1?api_key=hunter2", retries=0), renderer)
    with pytest.raises(ServerProblem) as problem:
        server.check(requests(renderer))
    assert "hunter2" not in f"{problem.value} {server.client.url} {caplog.text}" and "127.0.0.1" in str(problem.value)
