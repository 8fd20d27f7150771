"""Outputs of other tools, known by their columns: each row as id, prompt, outputs, gold, task, row and correct.

    lm-evaluation-harness   samples_<task>_<date>.jsonl of --log_samples     lm_eval/evaluator.py
    lighteval               details_<task>_<date>.parquet of --save-details  lighteval/models/model_output.py
    vLLM run-batch, OpenAI  output file of a batch                           vllm/entrypoints/openai/run_batch.py
    evalplus, human-eval    samples.jsonl                                    evalplus/codegen.py
    inspect_ai              .eval, or .json                                  inspect_ai/log/_log.py

NoveltyBench's generations.jsonl and dumps of vLLM's RequestOutput need nothing: their columns have the usual names.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from divmon.prompts import tasks

Fields = dict[str, Any]


@dataclass(frozen=True)
class Format:
    """What a tool writes."""

    name: str
    columns: tuple[frozenset[str], ...]
    """Those that a row of it has; one of these sets."""
    read: Callable[[Mapping[str, Any], str], Fields]
    """Of a row and the file's name; raises ValueError where the row holds no completion."""
    long: bool = False
    """A row is one completion; those of an id are together."""
    first_of_an_id: bool = False
    """Rows of the same id repeat the same completions, and the first is read."""


def format_of(row: Mapping[str, Any]) -> Format | None:
    """The tool that wrote a row; None where its columns are nobody's."""
    return next((f for f in FORMATS if any(columns <= row.keys() for columns in f.columns)), None)


def text_of(value: Any) -> str | None:
    """The text of a completion: itself, of a message the content, of a conversation the last turn; without reasoning
    that stands apart. Raises ValueError: it is none of these."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        if value.get("type") in ("reasoning", "thinking"):
            return ""
        for key in ("content", "text", "message", "generated_text"):
            if key in value:
                return text_of(value[key])
    if isinstance(value, Sequence) and all(isinstance(part, Mapping) for part in value):
        if any("role" in part for part in value):
            return text_of(value[-1]) if value else ""
        return "".join(text_of(part) or "" for part in value)
    raise ValueError(f"expected the text of a completion, came {str(value)[:60]}")


def _lm_eval(row: Mapping[str, Any], file: str) -> Fields:
    arguments = row["arguments"]
    if isinstance(arguments, Mapping):  # of a file; in memory they are lists
        arguments = [list(one.values()) for one in arguments.values()]
    if len(arguments) != 1:
        raise ValueError(f"{len(arguments)} requests of one document: choices by log-likelihood, no completions")
    prompt = arguments[0][0]
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    if isinstance(prompt, str) and prompt.startswith('[{"role"'):
        prompt = json.loads(prompt)
    task = re.match(r"samples_(.+)_\d{4}-\d\d-\d\dT", file)
    found = {"id": row["doc_id"], "prompt": prompt, "outputs": row["resps"][0], "gold": row.get("target")}
    found |= _of_task(task[1] if task else None, row["doc"] if isinstance(row.get("doc"), Mapping) else None)
    return found | _graded(found, row)


def _lighteval(row: Mapping[str, Any], file: str) -> Fields:
    def part(name: str) -> Any:
        value = row.get(name, row.get(f"__{name}__"))
        return json.loads(value) if isinstance(value, str) else value or {}

    if "full_prompt" in row:  # up to 0.9
        gold = row.get("gold")
        found = {"prompt": row["full_prompt"], "outputs": row["predictions"], "task": None}
        metrics = row.get("metrics") or {}
    else:
        doc, response = part("doc"), part("model_response")
        places = doc.get("gold_index")
        places = places if isinstance(places, list) else [places]
        gold = [doc["choices"][place] for place in places if isinstance(place, int) and doc.get("choices")]
        found = {"id": doc.get("id"), "prompt": doc.get("query") or response.get("input"), "outputs": response["text"]}
        name = str(doc.get("task_name", ""))  # "gsm8k", or "lighteval|gsm8k|0"
        found |= _of_task(name.split("|")[-2] if "|" in name else name, None)
        metrics = part("metric")
    found["gold"] = gold[0] if isinstance(gold, list) and len(gold) == 1 else gold or None
    return found | _graded(found, metrics)


def _batch(row: Mapping[str, Any], file: str) -> Fields:
    response = row["response"] or {}
    body = response.get("body", response)  # some servers leave the envelope out
    outputs = body.get("choices") or ([body["output"]] if body.get("output") else None)  # output: of /v1/responses
    if row.get("error") or response.get("status_code", 200) != 200 or outputs is None:
        raise ValueError(f"the request failed: {str(row.get('error') or body or response)[:120]}")
    return {"id": row["custom_id"], "prompt": f"({row['custom_id']})", "outputs": outputs}


def _evalplus(row: Mapping[str, Any], file: str) -> Fields:
    name = str(row["task_id"])
    task = {"humaneval": "humaneval", "mbpp": "mbpp"}.get(name.split("/")[0].lower())
    return {
        "id": name,
        "prompt": row.get("prompt") or name,
        "outputs": [row.get("solution", row.get("completion"))],
        "task": task,
    }


def _inspect(row: Mapping[str, Any], file: str) -> Fields:
    output = row["output"]
    if not output.get("choices"):
        raise ValueError(f"the sample has no output: {str(row.get('error') or output)[:120]}")
    target = row.get("target")
    task = str((row.get("eval") or {}).get("task", "")).split("/")[-1]
    scores = [score.get("value") for score in (row.get("scores") or {}).values() if isinstance(score, Mapping)]
    values = {"C": True, "I": False, 1: True, 0: False}
    correct = values.get(scores[0]) if scores and isinstance(scores[0], str | int | float) else None
    return {
        "id": row["id"],
        "prompt": row["input"],
        "outputs": output["choices"][:1],
        "gold": target[0] if isinstance(target, list) and len(target) == 1 else target,
        "correct": [correct] if scores else None,
        **_of_task(task, None),
    }


def _of_task(name: str | None, row: Any) -> Fields:
    """The task of divmon's by that name, and its row where it can read it; else nothing."""
    if name not in tasks.available():
        return {"task": None}
    with contextlib.suppress(Exception):  # a row of another data set trips a task's reader anywhere
        tasks.load(name).read(dict(row), 0, "row")
        return {"task": name, "row": dict(row)}
    return {"task": name}


def _graded(found: Fields, metrics: Mapping[str, Any]) -> Fields:
    """What the tool found of a lone completion, where it is right or wrong and no task of ours grades it."""
    values = [metrics[name] for name in ("exact_match", "acc", "pass@1", "extractive_match") if name in metrics]
    if found.get("task") or len(found["outputs"]) != 1 or not values or values[0] not in (0, 1):
        return {}
    return {"correct": [bool(values[0])]}


def _sets(*columns: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(one.split()) for one in columns)


FORMATS = (
    Format("lm-evaluation-harness samples", _sets("doc_id resps arguments"), _lm_eval, first_of_an_id=True),
    Format(
        "lighteval details",
        _sets("doc model_response", "__doc__ __model_response__", "full_prompt predictions"),
        _lighteval,
    ),
    Format("batch output", _sets("custom_id response"), _batch),
    Format("evalplus samples", _sets("task_id solution", "task_id completion"), _evalplus, long=True),
    Format("inspect_ai log", _sets("id epoch input output"), _inspect, long=True),
)
