"""Which rows' answers hold a stop string, without decoding every row's text at every token."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from divmon.prompts.rendering import Renderer


def first_stop(text: str, stops: Sequence[str]) -> int | None:
    """Where the earliest stop string begins in `text`, or None."""
    found = [at for at in (text.find(stop) for stop in stops) if at >= 0]
    return min(found) if found else None


def stopped(renderer: Renderer, tokens: list[int], in_reasoning: bool, stops: Sequence[str]) -> bool:
    """Whether the answer in `tokens` holds a stop string. Reasoning is not searched: a blank line there is fine."""
    text, _, answered = renderer.split(tokens, in_reasoning)
    return answered and first_stop(text, stops) is not None


class StopStrings:
    """A `divmon.sampling.engines.Stopper` over the rows of a batch.

    Args:
        rows: for each row its stop strings and whether its prompt leaves reasoning open.
        can_complete: ids of the tokens that can complete a stop string, from `completing_tokens`.
    """

    def __init__(
        self, renderer: Renderer, rows: Sequence[tuple[tuple[str, ...], bool]], can_complete: torch.Tensor
    ) -> None:
        self.renderer, self.rows, self.can_complete = renderer, rows, can_complete
        self.looked_at = [0] * len(rows)

    def __call__(self, rows_r: torch.Tensor, tokens_rt: torch.Tensor) -> torch.Tensor:
        rows, tokens_rt = rows_r.tolist(), tokens_rt.cpu()
        for row in rows:
            if tokens_rt.shape[1] <= self.looked_at[row]:  # decoded again from the start
                self.looked_at[row] = 0
        fresh = tokens_rt[:, min((self.looked_at[row] for row in rows), default=0) :]
        candidates = torch.isin(fresh, self.can_complete).any(-1).tolist()
        done = torch.zeros(len(rows), dtype=torch.bool)
        for i, row in enumerate(rows):
            self.looked_at[row] = tokens_rt.shape[1]
            stops, in_reasoning = self.rows[row]
            if candidates[i] and stops:
                done[i] = stopped(self.renderer, tokens_rt[i].tolist(), in_reasoning, stops)
        return done


def completing_tokens(renderer: Renderer, stops: frozenset[str]) -> torch.Tensor:
    """Ids of the tokens after which a row must be looked at: those that hold the last character of a stop string.

    All tokens where such a character is not ASCII, for its bytes may be spread over tokens.
    """
    ids = range(len(renderer.tokenizer))
    last = {stop[-1] for stop in stops}
    if all(character.isascii() for character in last):
        texts = renderer.tokenizer.batch_decode([[token] for token in ids])
        return torch.tensor([i for i, text in enumerate(texts) if any(c in text for c in last)], dtype=torch.long)
    return torch.tensor(ids, dtype=torch.long)
