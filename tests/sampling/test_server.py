"""The server engine against servers that fail in every way, and against a real `transformers serve`."""

from __future__ import annotations

import collections
import os
import random
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from support import tiny
from support.scripted import Reply, Scripted, completion, serving, words

from divmon.prompts.rendering import Renderer
from divmon.sampling import Drawing, Request
from divmon.sampling.engines.server import Server
from divmon.sampling.serving import client
from divmon.sampling.serving.client import ServerProblem, httpx
from divmon.types import Decoding, Prompt

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)
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


# -- what is asked


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
            len(draw(Server(seen.url, renderer, api_key="open sesame", concurrency=1), requests(renderer)).samples)
            == 12
        )
        with pytest.raises(ServerProblem, match="pass api_key="):
            draw(Server(seen.url, renderer), requests(renderer))


# -- servers that do not fit


def problem(scripts: dict[str, Any], renderer: Renderer, **server: Any) -> str:
    with serving(scripts) as seen, pytest.raises(ServerProblem) as raised:
        draw(Server(seen.url, renderer, **server), requests(renderer))
    return str(raised.value)


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


# -- failures on the way


def after_check(renderer: Renderer, seen: Scripted, asked: list[Request], **server: Any) -> Server:
    """A server that has been tried out while all was well."""
    made = Server(seen.url, renderer, **server)
    made.check(asked)
    return made


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


# -- text and token ids -> samples


def one(renderer: Renderer, answer: dict[str, Any], prompt: str = "what is", **decoding: Any) -> Any:
    """The sample that an answer becomes."""
    request = Request(renderer.render("sums", Prompt("p", prompt)), Decoding(12, **decoding), 1)
    drawn = [False]

    with serving({PATH: lambda body: Reply(answer) if drawn[0] else words(body)}) as seen:
        server = after_check(renderer, seen, [request])
        drawn[0] = True
        return draw(server, [request]).samples[0]


def test_how_a_sample_ended(renderer: Renderer) -> None:
    ended = one(renderer, completion(" it is", "stop", 3))
    assert (ended.text, ended.finish, ended.n_tokens) == (" it is", "eos", 3)
    cut = one(renderer, completion(" it is", "length", 12))
    assert (cut.finish, cut.n_tokens, cut.answered) == ("length", 12, True)
    for told in ({"stop_reason": "\n\n"}, {"matched_stop": "\n\n"}):
        assert one(renderer, completion(" it is", "stop", 4, **told), stop=("\n\n",)).finish == "stop"
    left_in = one(renderer, completion(" it is\n\n", "stop", 4), stop=("\n\n",))
    assert (left_in.text, left_in.finish, left_in.n_tokens) == (" it is", "stop", 4)
    assert one(renderer, completion(" it is", "stop", None)).n_tokens == len(renderer.tokenizer(" it is").input_ids) + 1


def test_a_text_that_ran_past_its_stop_string_is_cut_and_counted_again(renderer: Renderer) -> None:
    ran = one(renderer, completion(" it is\n\nthree and so on", "length", 12), stop=("is\n\nth", "\n\n"))
    assert (ran.text, ran.finish) == (" it ", "stop")
    assert ran.n_tokens == len(renderer.tokenizer(" it is\n\nth").input_ids)


def test_reasoning_is_split_off_and_special_tokens_dropped(renderer: Renderer) -> None:
    whole = one(renderer, completion("<think>two plus\n\ntwo</think> four<eos><|im_end|>", "stop", 9), stop=("\n\n",))
    assert (whole.text, whole.reasoning, whole.answered) == ("four", "two plus\n\ntwo", True)
    cut = one(renderer, completion("two plus", "length", 12), prompt="what is <think>", stop=("\n\n",))
    assert (cut.text, cut.reasoning, cut.answered) == ("", "two plus", False)


def test_token_ids_are_taken_before_text(renderer: Renderer) -> None:
    ids = renderer.tokenizer(" three").input_ids
    sample = one(renderer, completion("not this", "stop", 99, token_ids=[*ids, 2]))
    assert (sample.text, sample.finish, sample.n_tokens) == (" three", "eos", len(ids) + 1)
    open_end = one(renderer, completion("not this", "length", 99, token_ids=ids))
    assert (open_end.finish, open_end.n_tokens) == ("length", len(ids))
    other_end = one(renderer, completion("", "stop", 99, token_ids=[*ids, 8], stop_reason=8))
    assert (other_end.text, other_end.n_tokens) == (" three", len(ids) + 1)
    stops = renderer.tokenizer(" three\n\nis it").input_ids
    ran_on = one(renderer, completion("", "stop", 99, token_ids=stops, stop_reason="\n\n"), stop=("\n\n",))
    assert (ran_on.text, ran_on.finish) == (" three", "stop")
    assert ran_on.n_tokens == len(renderer.tokenizer(" three\n\n").input_ids)


def test_a_stop_string_is_not_sent_where_reasoning_would_meet_it(renderer: Renderer) -> None:
    asked = requests(renderer, stop=("\n\n",))
    thinking = Request(renderer.render("sums", Prompt("t", "what is <think>")), Decoding(12, stop=("\n\n",)), 1)
    with serving({PATH: words}) as seen:
        server = after_check(renderer, seen, asked)
        draw(server, [thinking])
        assert "stop" not in seen.bodies[-1]
        draw(server, asked)
        assert seen.bodies[-1]["stop"] == ["\n\n"]


# -- the real thing


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of one model: with a greedy generation config, with one that samples, and with a BOS put first."""
    from tokenizers.processors import TemplateProcessing

    folder = tmp_path_factory.mktemp("served")
    for name in ("greedy", "sampling", "bos"):
        model = tiny.model("llama", vocab_size=400)
        model.generation_config.do_sample = name == "sampling"
        tokenizer = tiny.tokenizer(chat_template=CHAT)
        if name == "bos":
            tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
                single="<bos> $A", special_tokens=[("<bos>", 1)]
            )
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="module")
def transformers_serve() -> Iterator[str]:
    """`transformers serve` in a process of its own; it loads whichever model a request names."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "transformers.cli.transformers",
        "serve",
        "--port",
        str(port),
        "--host",
        "127.0.0.1",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--device", "cpu"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, "transformers serve ended; is transformers[serving] installed?"
            try:
                httpx.get(f"{url}/health", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        process.wait(30)


def test_the_probe_catches_a_transformers_serve_that_stays_greedy(
    renderer: Renderer, transformers_serve: str, checkpoints: Path
) -> None:
    """Asked with OpenAI's fields alone it does what the checkpoint's generation config says."""
    asked = requests(renderer)
    greedy = Server(transformers_serve, renderer, model=str(checkpoints / "greedy"), fields="openai")
    with pytest.raises(ServerProblem, match="put do_sample: true into the checkpoint's"):
        greedy.check(asked)
    sampling = Server(transformers_serve, renderer, model=str(checkpoints / "sampling"), fields="openai", concurrency=1)
    drawing = draw(sampling, asked)
    assert len(drawing.samples) == 12 and not drawing.missing
    assert len({s.text for s in drawing.samples}) > 9
    assert "a seed gives its text again" in sampling.reason


def test_with_all_fields_said_the_greedy_one_samples_too_and_repeats_itself(
    renderer: Renderer, transformers_serve: str, checkpoints: Path
) -> None:
    asked = requests(renderer, temperature=1.0, top_p=1.0)
    model = str(checkpoints / "greedy")
    one_by_one = Server(transformers_serve, renderer, model=model)
    drawing = draw(one_by_one, asked)
    assert "prompts as text; fields as transformers takes them" in one_by_one.reason
    assert one_by_one.reason.endswith("a seed gives its text again")
    assert len({s.text for s in drawing.samples}) > 9
    assert all(s.n_tokens and s.n_tokens <= 12 for s in drawing.samples)
    assert draw(one_by_one, asked) == drawing
    at_once = Server(transformers_serve, renderer, model=model, concurrency=12)
    assert len(draw(at_once, asked).samples) == 12
    cold = draw(one_by_one, requests(renderer, temperature=0.0)).samples
    assert all(len({s.text for s in cold if s.prompt_id == f"p{i}"}) == 1 for i in range(3))


def test_first_tokens_follow_the_distribution_that_the_sampler_in_process_draws_from(
    renderer: Renderer, transformers_serve: str, checkpoints: Path
) -> None:
    """Chi-squared of the first token's text against the model's own softmax: no top-k or the like creeps in."""
    from transformers import AutoModelForCausalLM

    n, model = 300, AutoModelForCausalLM.from_pretrained(checkpoints / "greedy")
    request = requests(renderer, prompts=1, samples=n, temperature=1.0, top_p=1.0, max_new_tokens=1)[0]
    with torch.no_grad():
        probs = torch.softmax(model(torch.tensor([request.prompt.input_ids])).logits[0, -1].double(), -1)
    expected: dict[str, float] = collections.defaultdict(float)
    for token, p in enumerate(probs.tolist()):
        expected[renderer.tokenizer.decode([token], skip_special_tokens=True)] += p
    server = Server(transformers_serve, renderer, model=str(checkpoints / "greedy"))
    seen = collections.Counter(s.text for s in draw(server, [request]).samples)
    assert seen.keys() <= expected.keys()
    common = [text for text, p in expected.items() if p * n >= 5]
    observed = np.array([seen[text] for text in common] + [n - sum(seen[text] for text in common)])
    theory = np.array([expected[text] * n for text in common])
    theory = np.append(theory, n - theory.sum())
    assert len(common) >= 6
    assert stats.chisquare(observed, theory).pvalue > 1e-4


def test_stop_strings_end_tokens_and_a_bos_of_the_servers_own(transformers_serve: str, checkpoints: Path) -> None:
    from transformers import AutoTokenizer

    renderer = Renderer(AutoTokenizer.from_pretrained(checkpoints / "bos"), chat=False)
    request = Request(
        renderer.render("sums", Prompt("p", "what is")), Decoding(24, 1.0, 1.0, stop=("e", "r", "t", " ")), 24
    )
    assert request.prompt.input_ids[0] == 1
    server = Server(transformers_serve, renderer, model=str(checkpoints / "bos"))
    drawing = draw(server, [request])
    assert "special tokens may be doubled" not in server.reason
    finishes = collections.Counter(s.finish for s in drawing.samples)
    assert finishes["stop"] > 4
    assert not any(set(s.text) & set("ert ") for s in drawing.samples)
    assert all(s.n_tokens == 24 for s in drawing.samples if s.finish == "length")


def test_its_chats(transformers_serve: str, checkpoints: Path) -> None:
    renderer = Renderer(tiny.tokenizer(chat_template=CHAT), chat=True)
    asked = requests(renderer, prompts=2, samples=2)
    server = Server(
        transformers_serve,
        renderer,
        model=str(checkpoints / "greedy"),
        messages=lambda task, prompt: [{"role": "user", "content": "what is one plus two?"}],
    )
    server.forms = [form for form in server.forms if form.chat]
    assert len({s.text for s in draw(server, asked).samples}) > 2
    assert "/v1/chat/completions" in server.reason and "fields as transformers takes them" in server.reason


# -- servers that would hold or fill the process

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
    server = Server("http://me:hunter2@127.0.0.1:9/v1?api_key=hunter2", renderer, retries=0)
    with pytest.raises(ServerProblem) as problem:
        server.check(requests(renderer))
    assert "hunter2" not in f"{problem.value} {server.client.url} {caplog.text}" and "127.0.0.1" in str(problem.value)
