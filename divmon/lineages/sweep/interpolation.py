"""Models between a base and what was tuned from it: each weight is (1 - alpha) of the base's plus alpha of the other's.

Of full weights this is WiSE-FT (https://arxiv.org/abs/2109.01903); an adapter is merged first, and for LoRA that is the
same as to scale its update by alpha.
"""

from __future__ import annotations

from typing import Any

SHOWN = 3
"""Names in a message."""
GIVE = "give the model that TUNED was trained from"


class Unlike(ValueError):
    """Two models that have no weights in between; the message says where they differ and what to do."""


class Interpolation:
    """The models between two of the same shape. Two copies of the weights are held in memory beside the model.

    Args:
        base, tuned: causal language models of transformers; `tuned` becomes the model in between.

    Raises:
        Unlike: they differ in shape.
    """

    def __init__(self, base: Any, tuned: Any) -> None:
        self._ends = [{name: tensor.detach().cpu().clone() for name, tensor in _weights(m)} for m in (base, tuned)]
        check_shapes(*({name: tuple(t.shape) for name, t in end.items()} for end in self._ends))
        tied = [bool(getattr(model.config, "tie_word_embeddings", False)) for model in (base, tuned)]
        if tied[0] != tied[1]:
            one, other = ("BASE", "TUNED") if tied[0] else ("TUNED", "BASE")
            raise Unlike(f"{one} has one matrix for its first and last layer (tie_word_embeddings), {other} has two")
        self._model = tuned

    def at(self, alpha: float) -> Any:
        """The model at `alpha`: 0 is the base and 1 the tuned one, bit for bit. The same object each time."""
        import torch

        with torch.no_grad():
            base, tuned = self._ends
            for name, weight in _weights(self._model):
                if weight.is_floating_point():
                    weight.copy_(torch.lerp(base[name].float(), tuned[name].float(), alpha))
        return self._model.eval()


def merged(model: Any) -> Any:
    """The model with its adapter in its weights; as it is where it has none."""
    return model.merge_and_unload() if hasattr(model, "peft_config") else model


def check_shapes(base: dict[str, tuple[int, ...]], tuned: dict[str, tuple[int, ...]]) -> None:
    """
    Raises:
        Unlike: a weight is in one alone, or has two shapes.
    """
    if missing := sorted(base.keys() ^ tuned.keys()):
        sides = [f"{name} is in {'BASE' if name in base else 'TUNED'} alone" for name in missing[:SHOWN]]
        raise Unlike(
            f"the two are different models: {_few(sides, missing)}; give the model that TUNED was trained from"
        )
    unlike = [name for name in sorted(base) if base[name] != tuned[name]]
    if unlike:
        sides = [f"{name} is {base[name]} in BASE and {tuned[name]} in TUNED" for name in unlike[:SHOWN]]
        hint = GIVE
        if all("embed" in name or "lm_head" in name for name in unlike):
            hint = "TUNED has another vocabulary: add its tokens to BASE (resize_token_embeddings) and save it first"
        raise Unlike(f"the two differ in shape: {_few(sides, unlike)}; {hint}")


def check_vocabularies(base: dict[str, int], tuned: dict[str, int]) -> None:
    """Tokens that only one of the two has are let through: they are in rows that both have.

    Raises:
        Unlike: a token has another number, so that the rows of the embeddings mean different things.
    """
    moved = sorted(token for token in base.keys() & tuned.keys() if base[token] != tuned[token])
    if moved:
        sides = [f"{token!r} is {base[token]} in BASE and {tuned[token]} in TUNED" for token in moved[:SHOWN]]
        raise Unlike(f"the two have different vocabularies: {_few(sides, moved)}; models between them mean nothing")
    if not base.keys() & tuned.keys():
        raise Unlike("the two vocabularies share no token; models between them mean nothing")


def _few(shown: list[str], every: list[str]) -> str:
    more = len(every) - len(shown)
    return ", ".join(shown) + (f", and {more} more" if more else "")


def _weights(model: Any) -> list[tuple[str, Any]]:
    return list(model.state_dict(keep_vars=True).items())
