"""Rewards of data sets whose rows name their own rule, in the columns `dataset` and `ground_truth`, as TRL functions.

A row that another rule is for gets None, which TRL leaves out, so that one mixed data set takes several functions.
"""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from divmon.grading import verifiers
from divmon.grading.grader import judge as verdicts_of
from divmon.grading.program_extraction import extract
from divmon.options import from_file
from divmon.training import rewards
from divmon.training.rewards.endpoint import scores_of
from divmon.types import Prompt, Verdict

RULES = {
    "math": ("math",),
    "code": ("code", "code_stdio"),
    "constraints": ("ifeval",),
    "judge": ("general-quality", "general-quality_ref"),
}
"""The functions here, and the values of `dataset` that each is for."""

CODE_SECONDS = 30.0

_STDIN = """\
import contextlib, io, sys
def run_on_stdin(text):
    written = io.StringIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    with contextlib.redirect_stdout(written), contextlib.suppress(SystemExit):
        exec(compile({source!r}, "program", "exec"), {{"__name__": "__main__"}})
    return written.getvalue()
"""


@dataclass(frozen=True)
class Rule:
    """One rule as TRL calls it; it concerns the rows whose `dataset` names it, or all where there is no such column."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(
        self,
        prompts: Sequence[Any],
        completions: Sequence[Any],
        ground_truth: Sequence[Any] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """One reward for each completion, None for a row of another rule or one that cannot be graded.

        Raises:
            ValueError: there is no column `ground_truth`, and the rule asks for one.
        """
        if ground_truth is None and self.name != "judge":
            raise ValueError(f"the reward '{self.name}' needs a column 'ground_truth'; there are {', '.join(columns)}")
        named = columns.get("dataset") or [None] * len(completions)
        found: list[float | None] = [None] * len(completions)
        mine = [i for i, name in enumerate(named) if self._concerns(name)]
        texts = [rewards._answer(completions[i]) for i in mine]
        answered = [(i, text) for i, text in zip(mine, texts, strict=True) if text is not None]
        for i, text in zip(mine, texts, strict=True):
            if text is None:  # truncated inside its reasoning
                found[i] = self.arguments.get("ungradable")
        if answered:
            truths = [self._truth(ground_truth[i] if ground_truth is not None else None, named[i]) for i, _ in answered]
            asked = [_asked(prompts[i]) for i, _ in answered]
            given = _FUNCTIONS[self.name]([text for _, text in answered], truths, asked, **self.arguments)
            for (i, _), value in zip(answered, given, strict=True):
                found[i] = value
        return found

    def _concerns(self, named: Any) -> bool:
        names = named if isinstance(named, list | tuple) else [named]
        return named is None or any(name in RULES[self.name] for name in names)

    def _truth(self, value: Any, named: Any) -> Any:
        """What is meant for this rule, where a row names several rules with a truth each."""
        if isinstance(value, list) and isinstance(named, list) and len(value) == len(named):
            value = next(
                (truth for truth, name in zip(value, named, strict=True) if name in RULES[self.name]), value[0]
            )
        return value


def function(name: str, arguments: dict[str, Any] | None = None) -> Callable[..., list[float | None]]:
    """A reward function by name: one of RULES, a verifier, or "file.py:function", with its arguments.

    Raises:
        ValueError: there is none of that name.
        TypeError: it takes no such argument.
    """
    arguments = arguments or {}
    if name in RULES:
        known = set(_FUNCTIONS[name].__kwdefaults__ or {})
        for argument in arguments:
            if argument not in known:
                there = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
                raise TypeError(f"the reward '{name}' has no argument {argument!r}; {there}")
        return Rule(name, arguments)
    if ".py:" in name:
        bound = functools.partial(from_file("reward", name), **arguments)
        bound.__name__ = name.rpartition(":")[2]  # type: ignore[attr-defined]
        return bound
    if name in verifiers.available():
        return rewards.reward(name, **arguments)
    there = ", ".join([*RULES, *verifiers.available()])
    raise ValueError(f"no reward function named {name!r}; there are {there}, or give 'file.py:function'")


def math(
    texts: Sequence[str], truths: Sequence[Any], prompts: Sequence[Any], *, ungradable: float | None = None
) -> list[float | None]:
    """1 where the final answer equals the truth, else 0; `ungradable` where it cannot be graded."""
    asked = [Prompt("", prompt, gold=str(_only(truth))) for prompt, truth in zip(prompts, truths, strict=True)]
    return rewards.rewarded("math", verdicts_of("math_answer", list(texts), asked), ungradable)


def constraints(
    texts: Sequence[str], truths: Sequence[Any], prompts: Sequence[Any], *, ungradable: float | None = None
) -> list[float | None]:
    """The share of a row's constraints that are met, of those that can be checked; `ungradable` is for the rest.

    The truth is IFEval's row, or as Olmo 3's data has it `[{"instruction_id": [...], "kwargs": [...]}]`, also as text.
    """
    items = [(i, *pair) for i, truth in enumerate(truths) for pair in _constraints(truth)]
    asked = [
        Prompt("", prompts[i], row={"instruction_id_list": [name], "kwargs": [arguments]})
        for i, name, arguments in items
    ]
    verdicts = verdicts_of("ifeval", [texts[i] for i, *_ in items], asked)
    return _shares("constraints", len(texts), [i for i, *_ in items], verdicts, ungradable)


def code(
    texts: Sequence[str],
    truths: Sequence[Any],
    prompts: Sequence[Any],
    *,
    threshold: float = 0.0,
    ungradable: float | None = None,
) -> list[float | None]:
    """The share of a row's tests that the program passes, 0 below `threshold`; run in isolation, each test apart.

    A test that cannot be graded counts as `ungradable`, and is left out where that is None.

    The truth is a list of assert statements, or of {"input", "output"} for programs that read stdin, also as JSON text.
    Output is compared word by word.
    """
    items: list[tuple[int, str, dict[str, Any]]] = []
    for i, (text, truth) in enumerate(zip(texts, truths, strict=True)):
        program = extract(text)
        source = program.source if program else ""
        for test in _parsed(truth):
            if isinstance(test, dict):
                told = f"```python\n{_STDIN.format(source=source)}\n```"
                line = f"assert run_on_stdin({test['input']!r}).split() == {test['output']!r}.split()"
                items.append((i, told, {"test_list": [line], "code": "def run_on_stdin(text): ..."}))
            else:
                items.append((i, text, {"test_list": [str(test)], "code": source}))
    asked = [Prompt("", prompts[i], row=row) for i, _, row in items]
    judged = verdicts_of("python_tests", [told for _, told, _ in items], asked, seconds=CODE_SECONDS)
    shares = _shares("code", len(texts), [i for i, *_ in items], judged, ungradable)
    return [0.0 if share is not None and share < threshold else share for share in shares]


def judge(
    texts: Sequence[str],
    truths: Sequence[Any],
    prompts: Sequence[Any],
    *,
    model: str = "",
    url: str = "http://localhost:8001/v1",
    concurrency: int = 16,
) -> list[float | None]:
    """What a model at an OpenAI-compatible endpoint thinks of each answer, 1 to 10 over 10; None where it says nothing.

    The key, where one is needed, is in the environment variable DIVMON_JUDGE_KEY.

    Raises:
        RuntimeError: the endpoint answered no request at all.
    """
    asked = [prompt if isinstance(prompt, str) else prompt[-1]["content"] for prompt in prompts]
    references = [None if truth is None else str(_only(truth)) for truth in truths]
    return scores_of(asked, texts, references, model=model, url=url, concurrency=concurrency)


_FUNCTIONS: dict[str, Callable[..., list[float | None]]] = {
    "math": math,
    "code": code,
    "constraints": constraints,
    "judge": judge,
}


def _asked(prompt: Any) -> Any:
    return prompt if isinstance(prompt, str) else tuple(prompt)


def _shares(
    name: str, n: int, owners: Sequence[int], verdicts: Sequence[Verdict], ungradable: float | None
) -> list[float | None]:
    """For each of n the share of its tests that are passed; None where none can be graded."""
    judged: list[list[float]] = [[] for _ in range(n)]
    for owner, value in zip(owners, rewards.rewarded(name, verdicts, ungradable), strict=True):
        if value is not None:
            judged[owner].append(value)
    return [sum(row) / len(row) if row else None for row in judged]


def _only(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _parsed(truth: Any) -> list[Any]:
    """A list that may be written as text: JSON, or as Python prints it."""
    truth = _only(truth)
    if isinstance(truth, str):
        try:
            truth = json.loads(truth)
        except ValueError:
            try:
                truth = ast.literal_eval(truth)
            except (ValueError, SyntaxError, MemoryError, RecursionError):
                return [truth]
    return truth if isinstance(truth, list) else [truth]


def _constraints(truth: Any) -> list[tuple[str, dict[str, Any]]]:
    pairs = []
    for block in _parsed(truth):
        if not isinstance(block, dict):
            continue
        names = block.get("instruction_id") or block.get("instruction_id_list") or []
        given = block.get("kwargs") or [{}] * len(names)
        pairs += [(name, arguments or {}) for name, arguments in zip(names, given, strict=False)]
    return pairs
