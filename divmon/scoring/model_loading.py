"""A model by its name: from a local folder, installed packages, the hub's cache, or the hub.

What cannot be had is `Unavailable` at once: the hub is asked with a short timeout, not with the minute of retries its
clients make.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from divmon.scoring.packaged_weights import PACKAGED, Damaged, Unavailable, folder
from divmon.undisturbed import undisturbed_rng

logger = logging.getLogger("divmon")

_HUB_TIMEOUT = 5.0
_T = TypeVar("_T")


def obtain(name: str, load: Callable[[str, bool], _T]) -> _T:
    """A model from a local folder, installed packages, the hub's cache, or the hub, in this order.

    Args:
        name: a path, a hub id, or a name of `packaged_weights.PACKAGED`, whose short ones mean the package alone.
        load: takes a name or path and whether only local files may be used.

    Raises:
        Unavailable: none of them has it.
    """
    from huggingface_hub import HfApi, constants, try_to_load_from_cache

    # Whatever a model's own code raises is a reason it cannot be had, so every exception is caught here.
    if name in PACKAGED and "/" not in name:
        return load(str(folder(name)), True)
    if Path(name).exists():
        try:
            return load(name, True)
        except Exception as error:
            raise Unavailable(f"the folder {name} holds no model that can be loaded: {_reason(error)}") from error
    tried = [f"the folder {name!r} (not there)"]
    if name in PACKAGED:
        try:
            return load(str(folder(name)), True)
        except Exception as error:
            if isinstance(error, Damaged):
                logger.warning("%s", error)
            tried.append(f"installed packages ({_reason(error)})")
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
