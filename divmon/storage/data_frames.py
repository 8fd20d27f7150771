"""A run's figures as data frames, from what its snapshots hold: step -> the plain data of one.

Built by columns: of a thousand snapshots there are 80,000 figures, and five million values of prompts.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from divmon.types import TERMS, Probe

Markers = Mapping[int, dict[str, Any]]


_FORMULA, _NUMBER = ("=", "+", "-", "@", "\t", "\r"), re.compile(r"-|[+-]?[\d.,]+(e[+-]?\d+)?")


def write_csv(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Writes a frame as CSV. A text that a spreadsheet would run as a formula gets an apostrophe in front, the column
    names too (https://owasp.org/www-community/attacks/CSV_Injection)."""

    def harmless(value: Any) -> Any:
        formula = isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value)
        return f"'{value}" if formula else value

    texts = [name for name in frame if not pd.api.types.is_numeric_dtype(frame[name])]
    safe = frame.assign(**{name: frame[name].map(harmless) for name in texts})
    safe.rename(columns=harmless).to_csv(path, index=False)


def figures(markers: Markers, part: str, *numbers: str) -> pd.DataFrame:
    """One row a step, task and metric; `epoch` and `tokens` are columns where the provenance has them.

    Args:
        part: "scores" or "changes".
        numbers: the floats of its rows, besides `n`.
    """
    rows = [row for marker in markers.values() for row in marker[part]]
    count_S = [len(marker[part]) for marker in markers.values()]
    facts = [marker["provenance"] for marker in markers.values()]
    extra = [name for name in ("epoch", "tokens") if any(name in one for one in facts)]
    columns: dict[str, Any] = {"step": np.repeat(np.array(list(markers), dtype=np.int64), count_S)}
    columns |= {name: [row[name] for row in rows] for name in ("task", "metric")}
    columns |= {name: floats([row[name] for row in rows]) for name in numbers}
    columns["n"] = np.array([row["n"] for row in rows], dtype=np.int64)
    columns |= {name: np.repeat(floats([one.get(name) for one in facts]), count_S) for name in extra}
    return pd.DataFrame(columns)


def decomposition(markers: Markers) -> pd.DataFrame:
    """One row a step, task, pairwise metric and part of its change."""
    rows = []
    for step, marker in markers.items():
        for task, metrics in marker["decomposition"].items():
            for metric, parts in metrics.items():
                for part in ("change", *TERMS, "correct_pair_change"):
                    stratum = part.removeprefix("narrowing_")
                    how = [parts[name].get(stratum) for name in ("seen", "support", "labels")]
                    rows.append((step, task, metric, part, parts[part], *parts["ci95"][part], *how, parts["n"]))
    numbers = ["value", "low", "high", "seen", "support"]
    frame = pd.DataFrame(rows, columns=["step", "task", "metric", "part", *numbers, "label", "n"])
    return frame.astype({"step": "int64", "n": "int64", **dict.fromkeys(numbers, "float64")})


def per_prompt(markers: Markers, probes: Sequence[Probe]) -> pd.DataFrame:
    """One row a step, task, metric and prompt."""
    ids = {probe.name: [prompt.id for prompt in probe.prompts] for probe in probes}

    def ids_of(marker: dict[str, Any], task: str) -> Iterable[str]:
        own = marker["provenance"].get("prompts", ())  # windows of rollouts have prompts of their own
        return ids.get(task, ids.get(task.removesuffix("-full"), own))

    scores = [(step, marker, score) for step, marker in markers.items() for score in marker["scores"]]
    prompts = [list(ids_of(marker, score["task"]))[: len(score["values"])] for _, marker, score in scores]
    values = [floats(s["values"])[: len(own)] for (_, _, s), own in zip(scores, prompts, strict=True)]
    rows = [(step, score["task"], score["metric"]) for step, _, score in scores]
    frame = pd.DataFrame(rows, columns=["step", "task", "metric"]).astype({"step": "int64"})
    frame = frame.loc[frame.index.repeat(list(map(len, prompts)))].reset_index(drop=True)
    frame.insert(2, "prompt_id", list(itertools.chain.from_iterable(prompts)))
    return frame.assign(value=np.concatenate([floats([]), *values]))


def floats(values: ArrayLike) -> NDArray[np.float64]:
    """Numbers as strict JSON holds them: None is NaN, "Infinity" is infinite."""
    return np.array(values, dtype=np.float64)
