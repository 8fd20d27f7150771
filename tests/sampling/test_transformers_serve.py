"""The server engine against a real `transformers serve`."""

from __future__ import annotations

import collections
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from support import tiny
from support.asked_server import draw, requests
from support.asked_server import renderer as renderer
from support.asked_server import short_pauses as short_pauses

from divmon.prompts.rendering import Renderer
from divmon.sampling import Request
from divmon.sampling.engines.server import Server
from divmon.sampling.serving.client import ServerProblem, httpx
from divmon.types import Decoding, Prompt

CHAT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


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
