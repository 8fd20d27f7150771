"""Times a measurement before the first step, on the first batch of those that it would decode."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from divmon.sampling import Drawing, Request
from divmon.training.cost import Price
from divmon.training.process_shares import Spread, having
from divmon.training.scoring_times import ScoringTimes, repeated
from divmon.types import Decoding
from divmon.undisturbed import undisturbed

TIMED_STEPS = 4
"""Decoding steps that are timed, fewer where answers are short."""
TRIED_TOKENS = 32
"""New tokens of the completions that show how soon they end."""

Clock = Callable[[], float]


class Meter:
    """Times what this process draws, and scores where it is the one that does.

    Args:
        spread: the sampler with the processes that share its work; inside of what makes the model whole.
        requests: of an ordinary measurement.
        scoring: None where another process scores.
        clock: seconds.
    """

    def __init__(
        self,
        spread: Spread,
        requests: Sequence[Request],
        scoring: ScoringTimes | None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._spread, self._sampler, self._clock, self._scoring = spread, spread.sampler, clock, scoring
        self._sampler.prepare(requests)
        tried = self._draw(_limited(_few(requests), TRIED_TOKENS))  # warms up too
        self._ended = sum(sample.finish != "length" for sample in tried.samples)
        self._tokens = tried.tokens
        batch = max(self._batches(requests), key=_rows, default=[])
        self._time(batch)

    def price(self, requests: Sequence[Request], at_ends: bool = False) -> Price:
        """Of a measurement with these requests, for the batches in which this process would decode them.

        Args:
            at_ends: the first or the last one, where expensive metrics come in.
        """
        prefill, steps, share = self._sampling(requests)
        count = sum(request.num_samples for request in requests)
        scoring = 0.0 if self._scoring is None else self._scoring.of(requests, at_ends)
        likely = None if share is None else prefill + (steps + scoring) * share
        return Price(
            completions=count,
            tokens=sum(request.num_samples * request.decoding.max_new_tokens for request in requests),
            seconds=prefill + steps + scoring,
            likely=likely,
        )

    def generating(self, row: Sequence[int], tokens: int, rows: float, like: Request) -> float:
        """About the seconds that this process takes to sample so many completions of a prompt, as trainers do that
        learn from samples of their own.

        Args:
            row: token ids of the prompt; tokens: new ones at most; like: any request.
        """
        prompt = replace(like.prompt, input_ids=tuple(row))
        count = math.ceil(rows * self._spread.processes.count)  # of all processes, of which this one has its share
        prefill, steps, share = self._sampling([Request(prompt, Decoding(tokens, 1.0, 1.0), count)])
        return prefill + steps * (1.0 if share is None else share)

    def _sampling(self, requests: Sequence[Request]) -> tuple[float, float, float | None]:
        """Seconds of the prefills, of the steps to the limit, and how far of it completions go on average."""
        batches = self._batches(requests)
        prefill = sum(self._prefill * sum(len(r.prompt.input_ids) for r in batch) for batch in batches)
        steps = sum(self._step * self._weight(batch) * _limit(batch) for batch in batches)
        return prefill, steps, self._share_of_limit(max((_limit(batch) for batch in batches), default=1))

    def _batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        planned = getattr(self._sampler, "planned", None)
        rounds = self._spread.rounds(requests)
        return [batch for share in rounds for batch in (planned(share) if planned else [list(share)])]

    def _weight(self, batch: list[Request]) -> float:
        """A step of a batch over one of the batch that was timed: on a device they take as long, on a CPU by rows."""
        return 1.0 if self._on_device else _rows(batch) / self._timed_rows

    @property
    def _on_device(self) -> bool:
        model = getattr(self._sampler, "model", None)
        return model is None or next(model.parameters()).device.type != "cpu"

    def _time(self, batch: list[Request]) -> None:
        """Seconds of a prefill by prompt token, and of a step, half way to the limit: caches grow with every token."""
        limit = _limit(batch)
        steps = max(1, min(TIMED_STEPS, limit // 8))
        longer = [_longer(request, limit // 2) for request in batch]
        with having(self._sampler, "eos_token_ids", []):  # no token ends a completion: what is timed is the limit
            one = self._seconds(_limited(longer, 1))
            several = self._seconds(_limited(longer, 1 + steps))
        self._prefill = one / max(1, sum(len(request.prompt.input_ids) for request in longer))
        self._step = max(several - one, 0.0) / steps
        self._timed_rows = max(1, _rows(batch))

    def _share_of_limit(self, limit: int) -> float | None:
        """How far completions go on average, of the limit, where each token is as likely the last as those tried."""
        if not self._ended:
            return None
        rate = self._ended / max(self._tokens, self._ended)
        # A device takes as long for one row as for all, so that a batch lasts as long as its longest.
        last = math.log(max(self._timed_rows, 1)) + 0.58 if self._on_device else 1.0 - (1.0 - rate) ** limit
        return min(last / rate / limit, 1.0)

    def _seconds(self, requests: Sequence[Request]) -> float:
        began = self._clock()
        self._draw(requests)
        return self._clock() - began

    def _draw(self, requests: Sequence[Request]) -> Drawing:
        return self._sampler.draw(requests, seed=0, step=-1)


def _few(requests: Sequence[Request]) -> list[Request]:
    """The first and the longest."""
    return [requests[0], max(requests, key=lambda request: len(request.prompt.input_ids))][: len(requests)]


def _rows(batch: Sequence[Request]) -> int:
    return sum(request.num_samples for request in batch)


def _limit(batch: Sequence[Request]) -> int:
    return max((request.decoding.max_new_tokens for request in batch), default=1)


def _limited(requests: Sequence[Request], tokens: int) -> list[Request]:
    """The same for at most so many tokens; a single one that stop strings do not end."""
    return [
        replace(
            request,
            decoding=replace(
                request.decoding,
                max_new_tokens=min(tokens, request.decoding.max_new_tokens),
                stop=request.decoding.stop if tokens == TRIED_TOKENS else (),
            ),
        )
        for request in requests
    ]


def _longer(request: Request, tokens: int) -> Request:
    """With a prompt that is longer by so many tokens, its own over again."""
    ids = request.prompt.input_ids
    return replace(request, prompt=replace(request.prompt, input_ids=(*ids, *repeated(ids, tokens))))


def forward_seconds(model: Any, rows: Sequence[Sequence[int]]) -> float:
    """What one forward takes on the row of middle length.

    Args:
        rows: token ids of a few training rows, at least one.
    """
    import torch

    row = sorted(rows, key=len)[len(rows) // 2]
    ids = torch.tensor([list(row)], device=model.get_input_embeddings().weight.device)
    with undisturbed(model):
        model(input_ids=ids[:, :8])
        began = time.perf_counter()
        model(input_ids=ids).logits[0, -1, 0].item()
        return time.perf_counter() - began
