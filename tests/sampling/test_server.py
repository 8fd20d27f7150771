"""The server engine against servers that fail in every way, and against a real `transformers serve`."""

from __future__ import annotations

import collections
import random
import socket
from typing import Any

import numpy as np
import pytest
import torch
from support.asked_server import PATH, draw, problem, requests
from support.asked_server import renderer as renderer
from support.asked_server import short_pauses as short_pauses
from support.scripted import Reply, completion, serving, words

from divmon.prompts.rendering import Renderer
from divmon.sampling.engines.server import Server
from divmon.sampling.serving import client
from divmon.sampling.serving.client import ServerProblem


def test_every_sample_is_a_request_with_its_own_seed_and_every_field_said(renderer: Renderer) -> None:
    asked = requests(renderer, stop=("\n\n",), temperature=0.7, top_p=0.9)
    with serving({PATH: words}) as seen:
        server = Server(seen.url, renderer, model="m", eos_token_ids=[7])
        server.check(asked)
        before = len(seen.bodies)
        drawing = draw(server, asked)
    bodies = seen.bodies[before:]
    assert len(bodies) == len(drawing.samples) == 12
    assert len({body["seed"] for body in bodies}) == 12
    assert all(0 <= body["seed"] < 2**31 for body in bodies)
    by_prompt = collections.Counter(tuple(body["prompt"]) for body in bodies)
    assert by_prompt == {request.prompt.input_ids: 4 for request in asked}
    for body in bodies:
        said = {key: body[key] for key in body.keys() - {"seed", "prompt"}}
        assert said == {
            "model": "m",
            "temperature": 0.7,
            "top_p": 0.9,
            "top_k": -1,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "max_tokens": 12,
            "n": 1,
            "stop": ["\n\n"],
            "stop_token_ids": [2, 7],
            "add_special_tokens": False,
            "skip_special_tokens": False,
            "return_token_ids": True,
            "stream": False,
        }


def test_samples_depend_on_seed_step_prompt_and_number_alone(renderer: Renderer) -> None:
    asked = requests(renderer)
    with serving({PATH: words}) as seen:
        wide, narrow = Server(seen.url, renderer), Server(seen.url, renderer, concurrency=1)
        whole = draw(wide, asked)
        assert draw(narrow, asked[::-1]).samples == [
            s for r in asked[::-1] for s in whole.samples if s.prompt_id == r.prompt.id
        ]
        assert draw(wide, asked[1:2]).samples == whole.samples[4:8]
        for other in ({"seed": 1}, {"step": 1}):
            others = draw(wide, asked, **other).samples
            assert all(a.text != b.text for a, b in zip(others, whole.samples, strict=True))
    assert [(s.prompt_id, s.index) for s in whole.samples] == [(f"p{i}", k) for i in range(3) for k in range(4)]
    assert "a seed gives its text again" in wide.reason


def test_nothing_of_the_process_is_disturbed(renderer: Renderer) -> None:
    python, numpy, torchs = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    failing = iter([True, True])

    def script(body: dict[str, Any]) -> Reply:
        return Reply({}, 500) if next(failing, False) else words(body)

    with serving({PATH: script}) as seen:
        draw(Server(seen.url, renderer), requests(renderer))
    assert random.getstate() == python
    assert np.random.get_state()[1].tolist() == numpy
    assert torch.equal(torch.get_rng_state(), torchs)


def test_progress_counts_samples(renderer: Renderer) -> None:
    done: list[int] = []
    with serving({PATH: words}) as seen:
        Server(seen.url, renderer).draw(requests(renderer), seed=0, step=0, progress=done.append)
    assert sum(done) == 12


def test_a_key_is_sent_and_asked_for(renderer: Renderer) -> None:
    def script(body: dict[str, Any]) -> Reply:
        known = seen.headers[-1].get("Authorization") == "Bearer open sesame"
        return words(body) if known else Reply({"error": "Unauthorized"}, 401)

    with serving({PATH: script}) as seen:
        assert (
            len(
                draw(
                    Server(client.Client(seen.url, api_key="open sesame"), renderer, concurrency=1), requests(renderer)
                ).samples
            )
            == 12
        )
        with pytest.raises(ServerProblem, match="pass api_key="):
            draw(Server(seen.url, renderer), requests(renderer))


def test_a_greedy_server_is_named(renderer: Renderer) -> None:
    said = problem({PATH: lambda body: Reply(completion("five"))}, renderer)
    assert "the same text under 4 different seeds" in said
    assert "do_sample" in said


def test_a_server_with_a_seed_of_its_own_is_named(renderer: Renderer) -> None:
    assert "does not sample" in problem({PATH: lambda body: words({**body, "seed": 1})}, renderer)


def test_a_collapsed_model_is_not_taken_for_a_greedy_server(renderer: Renderer) -> None:
    def script(body: dict[str, Any]) -> Reply:
        return words({**body, "temperature": 0}) if body["temperature"] <= 1 else words(body)

    with serving({PATH: script}) as seen:
        server = Server(seen.url, renderer)
        assert {s.text for s in draw(server, requests(renderer)).samples} == {"red red red red"}
    assert "the model is so sure" in server.reason


def test_a_greedy_server_will_do_for_greedy_decoding(renderer: Renderer) -> None:
    with serving({PATH: lambda body: Reply(completion("five"))}) as seen:
        assert len(draw(Server(seen.url, renderer), requests(renderer, temperature=0)).samples) == 12


@pytest.mark.parametrize("count", [0, 2])
def test_another_number_of_completions_than_asked_is_named(renderer: Renderer, count: int) -> None:
    choices = completion("five")["choices"] * count
    assert f"{count} completions where one was asked for" in problem(
        {PATH: lambda body: Reply({"choices": choices})}, renderer
    )


def test_a_server_that_ignores_the_token_limit_is_named(renderer: Renderer) -> None:
    said = problem({PATH: lambda body: Reply(completion("five" * 100, tokens=400))}, renderer)
    assert "400 tokens where max_tokens=16 was asked for" in said


def test_a_model_that_is_not_served_is_named(renderer: Renderer) -> None:
    missing = Reply({"error": {"message": "The model `b` does not exist."}}, 404)
    scripts: dict[str, Any] = {PATH: lambda body: words(body) if body.get("model") == "a" else missing}
    scripts["/v1/models"] = ["a", "c"]
    assert "serves no model 'b'; pass model= with one of a, c" in problem(scripts, renderer, model="b")
    assert "it lists several models: pass model= with one of a, c" in problem(scripts, renderer)
    scripts["/v1/models"] = []
    assert "The model `b` does not exist." in problem(scripts, renderer, model="b")
    scripts["/v1/models"] = ["a"]
    with serving(scripts) as seen:
        assert len(draw(Server(seen.url, renderer), requests(renderer)).samples) == 12
    assert seen.bodies[-1]["model"] == "a"


def test_an_endpoint_that_is_not_there_is_named(renderer: Renderer) -> None:
    said = problem({"/v1/models": ["a"]}, renderer)
    assert "there is no /completions at" in said
    assert "if it does chats only, pass messages=" in said
    assert "nor" in problem({}, renderer, messages=lambda task, prompt: [])


def test_an_unreachable_server_is_named(renderer: Renderer) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ServerProblem, match="Start a server there"):
        draw(Server(url, renderer), requests(renderer))
    with pytest.raises(ValueError, match="expected an address"):
        Server("localhost:8000", renderer)


def test_fields_that_a_server_refuses_are_left_out(renderer: Renderer) -> None:
    known = {"model", "prompt", "temperature", "top_p", "max_tokens", "n", "seed", "stop", "stream"}
    known |= {"presence_penalty", "frequency_penalty"}

    def script(body: dict[str, Any]) -> Reply:
        strange = body.keys() - known
        return Reply({"detail": f"Unexpected: {sorted(strange)}"}, 422) if strange else words(body)

    with serving({PATH: script}) as seen:
        server = Server(seen.url, renderer)
        assert len(draw(server, requests(renderer)).samples) == 12
    assert (
        "prompts as token ids; fields as openai takes them; top_k, min_p and repetition_penalty are its own"
        in server.reason
    )


def test_chats_only_goes_through_messages(renderer: Renderer) -> None:
    def script(body: dict[str, Any]) -> Reply:
        text = words(body).body["choices"][0]["text"]
        message = {"role": "assistant", "content": text, "reasoning_content": "hm"}
        return Reply({"choices": [{"message": message, "finish_reason": "stop"}], "usage": {"completion_tokens": 9}})

    with serving({"/v1/chat/completions": script}) as seen:
        server = Server(seen.url, renderer, messages=lambda task, p: [{"role": "user", "content": f"{task} {p}"}])
        drawing = draw(server, requests(renderer))
    assert seen.bodies[-1]["messages"][0]["content"].startswith("sums p")
    assert all(s.reasoning == "hm" and s.answered and s.n_tokens == 9 for s in drawing.samples)
    assert len({s.text for s in drawing.samples}) > 6
    assert "its own chat template" in server.reason
