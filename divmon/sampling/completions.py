"""New tokens or text of an engine -> a Sample; and the seed of a request to one outside of this process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from divmon.prompts.rendering import Renderer
from divmon.sampling import Request
from divmon.sampling.stop_strings import first_stop, stopped
from divmon.types import Finish, Sample


def seed_of(*key: object) -> int:
    """A seed that only `key` decides, in [0, 2^31): what every engine takes."""
    return int.from_bytes(hashlib.blake2b(repr(key).encode(), digest_size=4).digest(), "big") >> 1


def from_ids(renderer: Renderer, request: Request, index: int, tokens: Sequence[int], finish: Finish) -> Sample:
    """Sample `index` of a request from its new tokens, without the one that closed it.

    Args:
        finish: why the engine ended it; a stop string that it ran past is found here.
    """
    prompt, stops = request.prompt, request.decoding.stop
    text, reasoning, answered = renderer.split(tokens, prompt.in_reasoning)
    n_tokens = len(tokens) + (finish == "eos")
    if answered and first_stop(text, stops) is not None:
        finish, n_tokens = "stop", len(tokens)
        # It may have run past its stop string before anyone looked; count to the token that completed it.
        while n_tokens and stopped(renderer, list(tokens[: n_tokens - 1]), prompt.in_reasoning, stops):
            n_tokens -= 1
        text = text[: first_stop(text, stops)]
    return Sample(prompt.task, prompt.id, index, text, finish, n_tokens, reasoning, answered)


def from_text(
    renderer: Renderer,
    request: Request,
    index: int,
    text: str,
    finish: Finish,
    *,
    n_tokens: int | None = None,
    reasoning: str | None = None,
) -> Sample:
    """Sample `index` of a request where only its text is known.

    Args:
        n_tokens: new tokens as the engine counted them, the closing one included; counted again from the text where
            None, or where the text runs past a stop string.
        reasoning: where the engine has split it from the text already.
    """
    prompt, stops = request.prompt, request.decoding.stop
    whole = (reasoning or "") + text
    if reasoning is None:
        answer, reasoning, answered = renderer.split_text(text, prompt.in_reasoning)
    else:
        answer, answered = text, bool(text) or finish != "length"
    at = first_stop(answer, stops) if answered else None
    if at is not None:
        through = at + min(len(stop) for stop in stops if answer.startswith(stop, at))
        if through < len(answer):
            whole, n_tokens = whole[: through - len(answer)], None
        answer, finish = answer[:at], "stop"
    if n_tokens is None:
        n_tokens = len(renderer.tokenizer(whole, add_special_tokens=False)["input_ids"]) + (finish == "eos")
    return Sample(prompt.task, prompt.id, index, answer, finish, n_tokens, reasoning, answered)
