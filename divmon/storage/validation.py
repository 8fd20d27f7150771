"""What the files of a run directory must hold: checked where no digest vouches for them, and said in words.

Only what reading depends on is required; further keys are left as they are.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from divmon.types import TERMS

Number = float | None | Literal["inf", "-inf", "Infinity", "-Infinity"]
"""As strict JSON holds one: None is NaN."""
Count = Annotated[int, Field(ge=0, le=2**53)]
Pair = Annotated[list[Number], Field(min_length=2, max_length=2)]
Texts = list[str]


class ScoreRow(TypedDict):
    task: str
    metric: str
    mean: Number
    low: Number
    high: Number
    n: Count
    values: list[Number]


class ChangeRow(TypedDict):
    task: str
    metric: str
    reference: Number
    now: Number
    change: Number
    low: Number
    high: Number
    n: Count


Intervals = TypedDict("Intervals", dict.fromkeys((*TERMS, "change", "correct_pair_change"), Pair))  # type: ignore[misc]
Terms = TypedDict("Terms", dict.fromkeys((*TERMS, "change", "correct_pair_change"), Number))  # type: ignore[misc]


class Parts(Terms):
    """A decomposition."""

    ci95: Intervals
    paper: NotRequired[dict[str, Any] | None]
    per_prompt: NotRequired[dict[str, list[Number]]]
    seen: dict[str, Number]
    support: dict[str, Number]
    labels: dict[str, str]
    n: Count


class DecodingRow(TypedDict, total=False):
    max_new_tokens: Count
    temperature: float | None
    top_p: float | None
    stop: Texts


class Facts(TypedDict, total=False):
    """A snapshot's provenance."""

    num_samples: Count
    completions: Count
    tokens_drawn: Count | None
    decoding: dict[str, DecodingRow]
    epoch: Number
    tokens: Number
    examples: Number
    stage: str | None
    left_out: dict[str, str] | None
    alerts: list[dict[str, Any]] | None
    prompts: dict[str, str] | Texts
    seconds: dict[str, Number]
    suspicion: str | None


class Marker(TypedDict):
    """The scores of a snapshot."""

    step: Count
    judged: bool
    scores: list[ScoreRow]
    changes: list[ChangeRow]
    decomposition: dict[str, dict[str, Parts]]
    missing: list[Annotated[Texts, Field(min_length=3, max_length=3)]]
    provenance: Facts


class SampleRow(TypedDict):
    task: str
    prompt_id: str
    index: Count
    text: str | None
    reasoning: str | None
    finish: Literal["eos", "stop", "length", "unknown"]
    n_tokens: Count | None
    answered: bool
    cut: bool


class GradedRow(SampleRow):
    correct: bool | None
    reason: str
    answer: str | None


class PromptRow(TypedDict):
    id: str
    content: str | list[dict[str, Any]] | list[int]
    gold: str | None
    row: NotRequired[dict[str, Any] | None]
    category: NotRequired[str]


class ProbeRow(TypedDict):
    name: str
    prompts: Annotated[list[PromptRow], Field(min_length=1)]
    max_new_tokens: Count
    stop: Texts
    verifier: NotRequired[str | None]
    source: NotRequired[str]
    chat_stop: NotRequired[Texts | None]


class OptionsRow(TypedDict, total=False):
    num_samples: Count
    max_new_tokens: Count | None
    max_reasoning_tokens: Count
    max_overhead: float | None
    reference: str
    on: str


class Seconds(TypedDict):
    run: float
    monitor: float


class AlertTests(TypedDict, total=False):
    planned_looks: Count
    tests: list[Annotated[Texts, Field(min_length=2, max_length=2)]]
    delta: Annotated[float, Field(gt=0, lt=1)]
    alpha: Annotated[float, Field(gt=0, lt=1)]


class Failure(TypedDict):
    step: int
    reason: str
    what: NotRequired[str]


class Segment(TypedDict, total=False):
    options: OptionsRow
    decoding: dict[str, DecodingRow]
    verifiers: dict[str, str | None]
    encoders: dict[str, str]
    figures: dict[str, dict[str, Any]]
    metrics: Texts
    vocab_size: int | None
    chat: bool | None


class NewReference(TypedDict):
    step: int
    why: str
    reference_step: NotRequired[int]


class Resumed(Segment):
    step: int


class Manifest(Segment):
    """What a run is. Without its probes and its format it cannot be read; `ALWAYS` says what else there must be."""

    format: Count
    probes: NotRequired[list[ProbeRow]]
    created: NotRequired[str]
    divmon: NotRequired[str]
    planned: NotRequired[list[int]]
    passed_over: NotRequired[list[int]]
    ended: NotRequired[int | None]
    failures: NotRequired[list[Failure]]
    resumed: NotRequired[list[Resumed]]
    reference_step: NotRequired[int]
    segments: NotRequired[list[NewReference]]
    seconds: NotRequired[Seconds | None]
    price: NotRequired[dict[str, Any] | None]
    prices: NotRequired[list[dict[str, Any]]]
    thinned: NotRequired[list[dict[str, Any]]]
    alerts: NotRequired[AlertTests]
    data: NotRequired[dict[str, dict[str, Any]] | None]
    versions: NotRequired[dict[str, str]]


@functools.cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


ALWAYS = ("probes", "options", "decoding", "verifiers", "encoders", "metrics", "divmon", "created")
"""Keys of every manifest, but for one of rollouts, whose prompts are those that a training happens to take."""


def wrong_manifest_keys(manifest: dict[str, Any], asks_probes: bool = True) -> Iterator[tuple[str, str]]:
    """As `wrong_keys`, of a manifest: what it lacks too, where it is of a run that asks probes."""
    faults = dict(wrong_keys(manifest, Manifest))
    for key in ALWAYS if asks_probes else ():
        if key not in manifest:
            faults[key] = f"there is no key '{key}', expected {_kind(Manifest, key)}"
    yield from faults.items()


def wrong_keys(value: Any, shape: Any) -> Iterator[tuple[str, str]]:
    """The top-level keys at which a value is not of this shape, each with its first fault in words."""
    try:
        _adapter(shape).validate_python(value, strict=True)
        return
    except ValidationError as error:
        faults = error.errors(include_url=False, include_context=False)
    told = set()
    for fault in faults:
        key = str(fault["loc"][0]) if fault["loc"] else ""
        if key not in told:
            told.add(key)
            yield key, _in_words(fault, shape)


def check(value: Any, shape: Any) -> None:
    """Raises ValueError with the key, what was expected, and what came, where a value is not of this shape."""
    for _, fault in wrong_keys(value, shape):
        raise ValueError(fault)


def _in_words(fault: Any, shape: Any) -> str:
    where = ".".join(map(str, fault["loc"]))
    if fault["type"] == "missing":
        return f"there is no key '{where}'" + (f", expected {_kind(shape, where)}" if len(fault["loc"]) == 1 else "")
    expected = str(fault["msg"]).replace("Input should be", "expected")
    return f"key '{where}': {expected}, got {fault['input']!r:.60}"


def _kind(shape: Any, key: str) -> str:
    """What is expected under a key, in JSON's words."""
    wanted = _adapter(shape).json_schema()["properties"][key]
    return {
        "array": "a list",
        "object": "an object",
        "integer": "a whole number",
        "boolean": "true or false",
        "string": "a text",
    }.get(wanted.get("type", "object"), "a value")
