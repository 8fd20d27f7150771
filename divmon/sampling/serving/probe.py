"""Before anything is drawn: how a server takes requests, and whether it samples at all.

A server that decodes greedily, or answers from a cache, would look like a model that has collapsed (contract 5).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from divmon.sampling import Request
from divmon.sampling.serving.client import Client, Refused, ServerProblem, Unanswered
from divmon.sampling.serving.form import Answer, Form
from divmon.types import Decoding

logger = logging.getLogger("divmon")

SEEDS = 4
"""Completions of a prompt, each with its own seed, of which not all may be the same text."""
NEW_TOKENS = 16
Question: TypeAlias = tuple[Request, int]
"""A request and a seed."""
Ask = Callable[[Form, Sequence[Question]], list[Answer]]
"""Asks all at once, each for one completion."""


@dataclass(frozen=True)
class Findings:
    """How to ask, and what is known of the server, in words."""

    form: Form
    notes: tuple[str, ...]


def probe(ask: Ask, requests: Sequence[Request], forms: Sequence[Form], client: Client, model: str | None) -> Findings:
    """Tries the server out on a few of the requests.

    Args:
        requests: what will be drawn; at least one.
        forms: ways to ask, the best first.
        model: as it will be asked for.

    Raises:
        ServerProblem: it cannot be drawn from; the message says what to do.
    """
    # The shortest fit the context for sure; those that do not are missing later, each with its reason.
    tried = [_short(request) for request in sorted(requests, key=lambda r: len(r.prompt.input_ids))[:3]]
    form, first = _find_form(ask, tried[0], forms, client, model)
    notes = [f"model {first.model or model!r}", str(form)]
    if first.n_tokens is not None and first.n_tokens > NEW_TOKENS:
        raise ServerProblem(
            f"the server at {client.url} gave {first.n_tokens} tokens where max_tokens={NEW_TOKENS} was asked for: it"
            " ignores the limit, so no task's could be kept; use another server"
        )
    expected = len(tried[0].prompt.input_ids)
    if first.prompt_tokens not in (None, expected) and not form.chat:
        notes.append(f"counts {first.prompt_tokens} tokens in a prompt of {expected}: special tokens may be doubled")
        logger.warning("divmon: the server at %s %s", client.url, notes[-1])
    notes.append("gives token ids" if first.tokens is not None else "gives text without token ids")
    try:
        if any(request.decoding.temperature > 0 for request in requests):
            notes += _sampling(ask, form, tried, client)
        notes.append(_seeds(ask, form, tried[0]))
    except (Refused, Unanswered) as error:
        raise ServerProblem(
            f"the server at {client.url} took a first request and failed at the next: {error}"
        ) from error
    return Findings(form, tuple(notes))


def _short(request: Request, temperature: float = 1.0) -> Request:
    return replace(request, decoding=Decoding(NEW_TOKENS, temperature, top_p=1.0))


def _find_form(
    ask: Ask, request: Request, forms: Sequence[Form], client: Client, model: str | None
) -> tuple[Form, Answer]:
    absent: set[str] = set()
    refusal: Refused | None = None
    for form in forms:
        if form.path in absent:
            continue
        try:
            return form, ask(form, [(request, 0)])[0]
        except Refused as error:
            refusal = error
            if error.status in (401, 403):
                raise ServerProblem(
                    f"the server at {client.url} lets no one in without its key: pass api_key= ({error})"
                ) from error
            if error.status in (404, 405):
                absent.add(form.path)
        except Unanswered as error:
            raise ServerProblem(_unanswered(client, model, error)) from error
    raise ServerProblem(_refused(client, model, absent, {form.path for form in forms}, refusal)) from refusal


def _unanswered(client: Client, model: str | None, error: Unanswered) -> str:
    words = str(error)
    if "completions where one" in words:
        return f"the server at {client.url} gives {words}; use one that can draw a completion at a time"
    if words.startswith("no answer"):
        return (
            f"nothing useful came from {client.url}: {words}. Start a server there (vllm serve MODEL, or python -m"
            " sglang.launch_server --model-path MODEL, or transformers serve MODEL), or correct the address"
        )
    asked = f"for the model {model!r}" if model else "that names no model (model=)"
    return f"the server at {client.url} fails at a first short request {asked}: {words}; its own log says more"


def _refused(client: Client, model: str | None, absent: set[str], paths: set[str], refusal: Refused | None) -> str:
    served = client.models()
    if model is not None and served and model not in served:
        return f"the server at {client.url} serves no model {model!r}; pass model= with one of {', '.join(served)}"
    named = f"the model {model!r}" if model else "a model that is not named (model=)"
    if absent == paths:
        chats = "" if "/chat/completions" in paths else "; if it does chats only, pass messages= too"
        return (
            f"there is no {' nor '.join(sorted(paths))} at {client.url}, or not for {named} ({refusal}):"
            f" give the address up to and with /v1 of an OpenAI-compatible server{chats}"
        )
    return (
        f"the server at {client.url} refuses a plain request for one completion of {named}: {refusal}; check"
        " the model's name, and that its context holds the prompts"
    )


def _sampling(ask: Ask, form: Form, requests: Sequence[Request], client: Client) -> list[str]:
    """Nothing to note of a server that gives different texts under different seeds at temperature 1."""
    if _differ(ask, form, requests):
        return []
    # A model may be as sure as that of all these prompts; twice the temperature tells it from a greedy server.
    if _differ(ask, form, [_short(request, temperature=2.0) for request in requests]):
        return [f"the model is so sure that {SEEDS} short samples of a prompt are the same at temperature 1"]
    raise ServerProblem(
        f"the server at {client.url} gave the same text under {SEEDS} different seeds, for each of {len(requests)}"
        " prompts, at temperature 1 and at 2: it does not sample, and what is drawn from it would look collapsed. For"
        " transformers serve, put do_sample: true into the checkpoint's generation_config.json; elsewhere look for"
        " sampling defaults that override what is asked, a fixed seed, or a cache of answers"
    )


def _differ(ask: Ask, form: Form, requests: Sequence[Request]) -> bool:
    answers = ask(form, [(request, seed) for request in requests for seed in range(1, SEEDS + 1)])
    texts = [(answer.text, answer.tokens) for answer in answers]
    return any(len(set(texts[i : i + SEEDS])) > 1 for i in range(0, len(texts), SEEDS))


def _seeds(ask: Ask, form: Form, request: Request) -> str:
    """Whether a seed gives its text again: among others at the same time, or only alone."""
    among = ask(form, [(request, seed) for seed in (11, 12, 13, 11, 14)])
    if among[0].text == among[3].text and among[0].tokens == among[3].tokens:
        return "a seed gives its text again"
    alone = [ask(form, [(request, 11)])[0] for _ in range(2)]
    if alone[0].text == alone[1].text:
        return "a seed gives its text again only while nothing else is asked (concurrency=1 makes samples repeatable)"
    return "a seed does not give its text again, so samples cannot be repeated"
