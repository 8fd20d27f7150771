"""What a user names becomes probes: tasks, files, lists, data sets, the trainer's own eval prompts."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from divmon.prompts import tasks
from divmon.prompts.probes.prompt_rows import read_prompt, trained_prompt
from divmon.prompts.rows.files import is_file_of_rows
from divmon.prompts.tasks._rows import draw, read_rows
from divmon.types import Probe, Prompt


@dataclass(frozen=True)
class _Wanted:
    num_prompts: int
    seed: int
    eval_dataset: Any
    tokenizer: Any


def resolve(
    spec: Any, *, num_prompts: int = 64, seed: int = 0, eval_dataset: Any = None, tokenizer: Any = None
) -> list[Probe]:
    """The probes that `spec` names, each a fixed subset of at most `num_prompts` prompts.

    Args:
        spec: a task's name; several ("gsm8k,starter", or a list); a group of tasks ("paper", "verifiable", "code",
            ...); a task on a local file ("gsm8k@file.jsonl"), or a group on a folder with a <task>.jsonl for each; a
            file of {id?, prompt: text | messages, gold?, task?, category?, stop?, chat_stop?}, one probe for each
            `task` in it; a list of prompts (text, messages, or such rows); a datasets.Dataset with a column `prompt` or
            `messages`; "eval"; a Probe or a list of them (taken whole). `stop` (a string or several) ends the answers
            of a row's task and is cut from them, `chat_stop` in its place where prompts go through a chat template:
            "stop": "\n", "chat_stop": [] stops plain prompts only. One row of a task may speak for all.
        seed: of the subset's draw, which has a generator of its own.
        eval_dataset: what "eval" reads: the trainer's, before or after it was tokenized; a dict of them gives a probe
            for each. Of a streamed one the first rows are taken.
        tokenizer: whose padding is stripped from rows that hold token ids and no attention mask.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a name is unknown, or a row is bad; the message names file, line and reason.
    """
    if num_prompts < 1:
        raise ValueError(f"expected num_prompts of at least 1, came {num_prompts}")
    probes = _forms(spec, _Wanted(num_prompts, seed, eval_dataset, tokenizer))
    names = [probe.name for probe in probes]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two probes are named {name!r}; their curves would share a name, so rename one of them")
    return probes


def _forms(spec: Any, wanted: _Wanted) -> list[Probe]:
    if isinstance(spec, Probe):
        return [spec]
    if isinstance(spec, str):
        return [probe for part in _parts(spec) for probe in _named(part, wanted)]
    if isinstance(spec, Path):
        return _file(spec, wanted)
    if isinstance(spec, list | tuple):
        return _list(list(spec), wanted)
    if _is_dataset(spec):
        rows = [(f"row {index} of the data set", index, row) for index, row in _some_rows(spec, wanted)]
        prompts = tuple(read_prompt(row, index, where) for where, index, row in rows)
        stops = _stops((where, row) for where, _, row in rows)
        return [Probe("dataset", prompts, source="datasets.Dataset", **stops)]
    raise ValueError(
        f"cannot make a probe of {type(spec).__name__}; give the name of a task ({', '.join(tasks.available())}),"
        f" {tasks.OTHER_FORMS}"
    )


def _parts(spec: str) -> list[str]:
    """Comma-separated names; a path that holds a comma stays whole."""
    if os.path.isfile(spec) or os.path.isfile(spec.partition("@")[2]):
        return [spec]
    return [part.strip() for part in spec.split(",") if part.strip()] or [spec]


def _named(name: str, wanted: _Wanted) -> list[Probe]:
    if name == "eval":
        return _eval(wanted)
    task, at, source = name.partition("@")
    if task in tasks.groups() and not os.path.isfile(name):
        return [probe for member in tasks.groups()[task] for probe in _named(member + at + source, wanted)]
    if at and not os.path.isfile(name):
        return [tasks.load(task).probe(wanted.num_prompts, wanted.seed, Path(source))]
    if name not in tasks.available() and (os.path.isfile(name) or is_file_of_rows(name)):
        return _file(Path(name), wanted)
    return [tasks.load(name).probe(wanted.num_prompts, wanted.seed)]


def _file(path: Path, wanted: _Wanted) -> list[Probe]:
    return _grouped(read_rows(path), path.stem, str(path), wanted)


def _list(items: list[Any], wanted: _Wanted) -> list[Probe]:
    if not items:
        raise ValueError("the list of probes is empty; give at least one name or prompt")
    if any(_is_spec(item) for item in items):
        return [probe for item in items for probe in _forms(item, wanted)]
    if all(isinstance(item, dict) and "role" in item and "prompt" not in item for item in items):
        items = [items]  # one conversation, not a list of them
    rows = [(f"prompt {index} of the list", item) for index, item in enumerate(items)]
    return _grouped(rows, "prompts", "list", wanted)


def _is_spec(item: Any) -> bool:
    """Whether an item of a list names a probe; a string that does not is a prompt."""
    if isinstance(item, str):
        is_path = is_file_of_rows(item) and not any(map(str.isspace, item))
        is_task = item.partition("@")[0] in (*tasks.available(), *tasks.groups())
        return item == "eval" or is_task or is_path or os.path.isfile(item)
    return isinstance(item, Probe | Path) or _is_dataset(item)


def _is_dataset(item: Any) -> bool:
    import datasets

    return isinstance(item, datasets.Dataset | datasets.IterableDataset)


def _grouped(rows: list[tuple[str, Any]], name: str, source: str, wanted: _Wanted) -> list[Probe]:
    """One probe for each `task` of the rows. All rows are read, so that a bad one is named whatever is drawn."""
    groups: dict[str, list[Prompt]] = {}
    of_task: dict[str, list[tuple[str, Any]]] = {}
    seen: dict[tuple[str, str], str] = {}
    for index, (where, row) in enumerate(rows):
        prompt = read_prompt(row, index, where)
        task = str(row.get("task") or name) if isinstance(row, dict) else name
        if (task, prompt.id) in seen:
            raise ValueError(f"{where}: the id {prompt.id!r} is that of {seen[task, prompt.id]} too; use each once")
        seen[task, prompt.id] = where
        groups.setdefault(task, []).append(prompt)
        of_task.setdefault(task, []).append((where, row))
    return [
        Probe(
            task,
            tuple(prompts[i] for i in draw(len(prompts), wanted.num_prompts, wanted.seed)),
            source=source,
            verifier=_verifier(task, prompts),
            **_stops(of_task[task]),
        )
        for task, prompts in groups.items()
    ]


def _verifier(task: str, prompts: list[Prompt]) -> str | None:
    """That of a task of this name, where the rows have a reference answer to grade by."""
    known = task in tasks.available() and any(prompt.gold is not None for prompt in prompts)
    return tasks.load(task).verifier if known else None


def ungraded(probes: Iterable[Probe]) -> str:
    """What to do about reference answers that nothing grades by; "" where there are none."""
    found = [f"{sum(p.gold is not None for p in probe.prompts)} of {probe.name}" for probe in probes if _waits(probe)]
    if not found:
        return ""
    return (
        f"reference answers that nothing grades by: {', '.join(found)}. Name the task in the rows ('task': 'gsm8k';"
        " divmon tasks lists them), or give verifier=, a name or 'file.py:function'"
    )


def _waits(probe: Probe) -> bool:
    return probe.verifier is None and any(prompt.gold is not None for prompt in probe.prompts)


def _stops(rows: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """The stop strings that a task's rows name, as `Probe` takes them. Raises ValueError: two rows differ, or one names
    no text."""
    found: dict[str, tuple[str, Any]] = {}
    for where, row in rows:
        for name in ("stop", "chat_stop"):
            value = row.get(name) if isinstance(row, Mapping) else None
            if value is None:
                continue
            stops = [value] if isinstance(value, str) else value
            if not isinstance(stops, list | tuple) or not all(isinstance(stop, str) and stop for stop in stops):
                raise ValueError(f"{where}: expected `{name}` to be a text or a list of texts, came {value!r}")
            first, before = found.setdefault(name, (where, tuple(stops)))
            if before != tuple(stops):
                raise ValueError(f"{where}: its `{name}` is not that of {first}; a task's rows are decoded alike")
    return {name: stops for name, (_, stops) in found.items()}


def _some_rows(dataset: Any, wanted: _Wanted) -> list[tuple[int, Any]]:
    """A fixed subset of the rows with their indices; of a stream the first ones."""
    import datasets

    if isinstance(dataset, datasets.Dataset):
        dataset = dataset.with_format(None)  # the user's own transform is neither needed nor run
    # By name: of datasets or of torch, which is not imported here, and whose own has a __getitem__ that only raises.
    if any(base.__name__ == "IterableDataset" for base in type(dataset).__mro__):
        return list(enumerate(islice(dataset, wanted.num_prompts)))
    return [(index, dataset[index]) for index in draw(len(dataset), wanted.num_prompts, wanted.seed)]


def _eval(wanted: _Wanted) -> list[Probe]:
    if wanted.eval_dataset is None:
        raise ValueError(
            "'eval' measures the trainer's own eval prompts, but the trainer has no eval_dataset; pass one to it, or"
            f" give the name of a task ({', '.join(tasks.available())}), {tasks.OTHER_FORMS}"
        )
    if isinstance(wanted.eval_dataset, Mapping):
        return [_eval_probe(f"eval_{key}", dataset, wanted) for key, dataset in wanted.eval_dataset.items()]
    return [_eval_probe("eval", wanted.eval_dataset, wanted)]


def _eval_probe(name: str, dataset: Any, wanted: _Wanted) -> Probe:
    """The prompts of one eval set; rows without one are left out and counted, as the set was not made for probing."""
    prompts, reasons = [], []
    for index, row in _some_rows(dataset, wanted):
        try:
            prompts.append(Prompt(str(index), trained_prompt(row, wanted.tokenizer)))
        except ValueError as error:
            reasons.append(f"row {index}: {error}")
    if not prompts:
        raise ValueError(f"no prompt could be read from the eval set '{name}'; {(reasons or ['it has no rows'])[0]}")
    left_out = f", {len(reasons)} rows without a prompt left out ({reasons[0]})" if reasons else ""
    return Probe(name, tuple(prompts), source=f"eval_dataset{left_out}")
