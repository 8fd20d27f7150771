"""What a callback is not told: which trainer it runs in, and what that trainer holds."""

from __future__ import annotations

import contextlib
import gc
import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from divmon.training.sharded_models import sharding_of, unwrapped


def find_trainer(callback: Any) -> Any | None:
    """The trainer whose callback handler holds `callback`, by identity; None where there is none.

    Hook arguments hold no trainer. The frames above a hook do (`Trainer.train` is one of them); where they do not,
    because a subclass calls from elsewhere, the objects that refer to the callback's list lead to it.
    """
    # One after the other: looking through all objects takes a good part of a second where there are millions.
    for candidate in itertools.chain(_selves_above(), _referrers(callback)):
        handler = getattr(candidate, "callback_handler", None)
        if any(c is callback for c in getattr(handler, "callbacks", ())):
            return candidate
    return None


def is_training(state: Any) -> bool:
    """Whether the training with this `TrainerState` goes on further up the stack: another one is nested in it."""
    return any(getattr(candidate, "state", None) is state for candidate in _selves_above() if candidate is not None)


def _selves_above() -> Iterator[Any]:
    frame = sys._getframe(2)
    while frame is not None:
        if "self" in frame.f_locals:
            yield frame.f_locals["self"]
        frame = frame.f_back  # type: ignore[assignment]


def _referrers(callback: Any, depth: int = 5) -> Iterator[Any]:
    """What refers to the callback, to that, and so on: list of callbacks, handler, trainer (and their dictionaries)."""
    from transformers import Trainer

    seen: set[int] = set()
    level: list[Any] = [callback]
    for _ in range(depth):
        found = [o for o in gc.get_referrers(*level) if id(o) not in seen and not hasattr(o, "f_back")]
        seen.update(map(id, found))
        yield from (o for o in found if issubclass(type(o), Trainer))
        level = [o for o in found if isinstance(o, list | dict) or type(o).__name__ == "CallbackHandler"]
        if not level:
            return


def reference_model(how: str, trainer: Any, model: Any) -> Callable[[Any], AbstractContextManager[Any]]:
    """Gives, of the model, the one that the reference is measured on in its place.

    Args:
        how: "ref_model", what the trainer compares with (a model of its own, the copied adapter "ref", or the model
            without its adapter); "base", the model without its adapter.

    Raises:
        ValueError: there is none.
    """
    own = getattr(trainer, "ref_model", None)
    adapters = getattr(unwrapped(model), "peft_config", None)
    if how == "ref_model" and own is not None:
        return lambda model: nullcontext(own)
    if adapters is None and how == "base":
        raise ValueError("reference='base': this model has no adapter to leave out (it is not wrapped by PEFT)")
    if adapters is None:
        raise ValueError(
            "reference='ref_model': this trainer holds no reference model (DPO and KTO do, GRPO and RLOO with beta > 0)"
        )
    copied = how == "ref_model" and "ref" in adapters
    return lambda model: _with_adapter(model, "ref" if copied else None)


def candidate_model(how: str, trainer: Any, model: Any) -> Callable[[Any], AbstractContextManager[Any]] | None:
    """Gives, of the model, one at hand that may be the reference: the trainer's reference model, or the model without
    its adapter; None where there is none, or it changes while training."""
    if getattr(getattr(trainer, "args", None), "sync_ref_model", False):
        return None
    if sharding_of(model) and getattr(trainer, "ref_model", None) is None:
        return None  # what an adapter switches lies in parts over the processes
    with contextlib.suppress(ValueError):
        return reference_model("base" if how == "base" else "ref_model", trainer, model)
    return None


@contextmanager
def _with_adapter(model: Any, name: str | None) -> Iterator[Any]:
    """The model with this adapter, or with none; what trains and what does not stays as it was."""
    from trl.trainer.utils import use_adapter

    trains = [(p, p.requires_grad) for p in model.parameters()]
    try:
        with use_adapter(unwrapped(model), name):
            yield model
    finally:
        for parameter, before in trains:
            parameter.requires_grad_(before)


def readable_rows(dataset: Any, count: int = 8) -> list[list[int]]:
    """Token ids of the first rows of a data set that is safe to read: never a stream, nor a class unknown to us.

    A row of preferences is both of its completions, one after the other, each with the prompt.
    """
    ids = [_ids_of(row) for row in _first_rows(dataset, count)]
    return [[int(token) for token in row] for row in ids if row is not None and len(row)]


def prompts_of(dataset: Any, count: int = 8) -> list[Any]:
    """Prompts of the first rows, texts or messages, of a data set as `readable_rows` takes it."""
    prompts = [row.get("prompt") for row in _first_rows(dataset, count)]
    return [tuple(prompt) if isinstance(prompt, list) else prompt for prompt in prompts if prompt]


def _first_rows(dataset: Any, count: int) -> list[dict[str, Any]]:
    import datasets

    if not isinstance(dataset, datasets.Dataset | list | tuple):
        return []
    if isinstance(dataset, datasets.Dataset):
        dataset = dataset.with_format(None)  # a user's random transform would move the run's generators
    rows = [dataset[i] for i in range(min(count, len(dataset)))]
    return [row for row in rows if isinstance(row, dict)]


def _ids_of(row: dict[str, Any]) -> Any:
    if "chosen_ids" in row and "rejected_ids" in row:
        prompt = list(row.get("prompt_ids") or [])
        return [*prompt, *row["chosen_ids"], *prompt, *row["rejected_ids"]]
    if "prompt_ids" in row and "completion_ids" in row:
        return [*(row["prompt_ids"] or []), *row["completion_ids"]]
    return row.get("input_ids")
