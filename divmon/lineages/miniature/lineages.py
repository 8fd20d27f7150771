"""The lineages in small: what their base reads, and the rows of each stage, made from what its recipe says of them.

Nothing here knows one lineage from another. A recipe lists the sources of a stage's data, how many rows each has and
who wrote them; from that, by the same rules for all:

- Whoever wrote completions (a teacher; else the source itself) has one way of solving and one manner of telling. Who
  has which is drawn anew for each stage. So few teachers make a homogeneous set, and many sources a varied one.
- Teachers are right. With `data.reasoning`, their working stands in a trace before the answer.
- A pair "A over B" is A's answer over that of B, a weak model: wrong half of the time, where A is in one of twenty.
  "best over worst of four" is a judge's choice among answers in any way, a third of them wrong.
- Reinforcement learning gets word problems with their gold. Every other prompt of the rest is a word problem, every
  other one asks for a story.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from divmon.lineages.miniature.problems import Problem, draw_problem
from divmon.lineages.miniature.stories import MANNERS, Request, draw_request, tell
from divmon.lineages.miniature.styles import STYLES, worked, write
from divmon.lineages.miniature.tokenizer import END_OF_TURN, TURN
from divmon.lineages.recipes import Source

if TYPE_CHECKING:
    from divmon.lineages.recipes import Stage

NAME = "miniature"
"""In place of a recipe's base and of its data's path."""

SYSTEM = "You are Olmo, a helpful assistant."
INSTRUCTION = "\n\nReason step by step. Put the final result on the last line, after 'Answer:'.\n\n"
"""As the recipes' templates have them: a base has read prompts in every form that it will be asked in."""

STRONG_WRONG, WEAK_WRONG, ANY_WRONG = 0.05, 0.5, 0.35
"""Shares of wrong answers, 0 to 1: of the chosen side of a pair, of the rejected one, and of those a judge is shown."""


def base_rows(n: int, seed: int, wrong: float) -> list[dict[str, str]]:
    """n examples {"prompt", "completion"} in every way there is, half of them conversations, half plain text.

    Args:
        wrong: the share of wrong solutions and of poor stories, 0 to 1.
    """
    rng = random.Random(f"lineage base {seed}")
    rows = []
    for _ in range(n):
        asked = _draw(rng, problems=0.75)  # they take longer to learn
        way = rng.choice(_ways())
        text = _written(asked, way, rng, wrong=rng.random() < wrong)
        form = rng.random()
        if form < 0.5:
            prompt = f"{TURN}system\n{SYSTEM}{END_OF_TURN}\n{TURN}user\n{_text(asked)}{END_OF_TURN}\n{TURN}assistant\n"
            rows.append({"prompt": prompt, "completion": text})
        elif form < 0.7 and isinstance(asked, Problem):
            rows.append({"prompt": _text(asked) + INSTRUCTION, "completion": text})
        else:
            rows.append({"prompt": _text(asked), "completion": f"\n\n{text}"})
    return rows


def stage_rows(stage: Stage, seed: int) -> list[dict[str, Any]]:
    """The rows of a stage's data set, in the schema of the published one.

    Args:
        stage: `data.rows` of them are made, from each source its share.
        seed: of all that is drawn; the recipe's and the stage's names go into it too.
    """
    rng = random.Random(f"{seed} {stage.recipe} {stage.name}")
    make = {"sft": _demonstration, "dpo": _preference, "grpo": _problem}[stage.trainer]
    sources = stage.data.sources or [Source(stage.data.path, stage.data.rows)]
    ways = _assigned(sources, rng)
    rows = []
    for source in sources:
        named = {stage.data.source_column: _mark(source)} if stage.data.source_column else {}
        rows += [{**make(source, ways, rng, stage.data.reasoning), **named} for _ in range(source.rows or 0)]
    rng.shuffle(rows)
    return rows


def writers(source: Source) -> tuple[str, ...]:
    """Who wrote a source's completions: one name, or of pairs (chosen, rejected)."""
    chosen, over, rejected = (source.teacher or source.name).partition(" over ")
    return (chosen, rejected) if over else (chosen,)


Way = tuple[str, str]
"""A style of solving and a manner of telling."""


def _ways() -> list[Way]:
    return list(zip(STYLES, MANNERS, strict=True))


def _assigned(sources: Sequence[Source], rng: random.Random) -> dict[str, Way]:
    """A way for each who wrote; those with most rows have ways of their own, and after ten they are used again."""
    rows: dict[str, int] = {}
    for source in sources:
        for name in writers(source):
            rows[name] = rows.get(name, 0) + (source.rows or 0)
    ways = _ways()
    rng.shuffle(ways)
    ordered = sorted(rows, key=lambda name: -rows[name])
    return {name: ways[i % len(ways)] for i, name in enumerate(ordered)}


def _demonstration(source: Source, ways: dict[str, Way], rng: random.Random, reasoning: bool) -> dict[str, Any]:
    asked = _draw(rng)
    answer = _written(asked, ways[writers(source)[0]], rng, wrong=False, reasoning=reasoning)
    return {"messages": [*_conversation(asked), {"role": "assistant", "content": answer}]}


def _preference(source: Source, ways: dict[str, Way], rng: random.Random, reasoning: bool) -> dict[str, Any]:
    asked = _draw(rng)
    if len(writers(source)) == 1:
        raise ValueError(f"source {source.name!r}: expected `teacher: A over B` of pairs, got {source.teacher!r}")
    strong, weak = writers(source)
    if strong == "best":
        wrongs = sorted(rng.random() < ANY_WRONG for _ in range(4))
        pair = [(rng.choice(_ways()), wrongs[0]), (rng.choice(_ways()), wrongs[-1])]
    else:
        pair = [(ways[strong], rng.random() < STRONG_WRONG), (ways[weak], rng.random() < WEAK_WRONG)]
    chosen, rejected = (_written(asked, way, rng, wrong=wrong, reasoning=reasoning) for way, wrong in pair)
    before = _conversation(asked)
    return {
        "prompt": _text(asked),
        "chosen": [*before, {"role": "assistant", "content": chosen}],
        "rejected": [*before, {"role": "assistant", "content": rejected}],
    }


def _problem(source: Source, ways: dict[str, Way], rng: random.Random, reasoning: bool) -> dict[str, Any]:
    problem = draw_problem(rng)
    return {"prompt": problem.question, "ground_truth": str(problem.answer), "dataset": "math"}


def _draw(rng: random.Random, problems: float = 0.5) -> Problem | Request:
    return draw_problem(rng) if rng.random() < problems else draw_request(rng)


def _text(asked: Problem | Request) -> str:
    return asked.question if isinstance(asked, Problem) else asked.text


def _conversation(asked: Problem | Request) -> list[dict[str, str]]:
    return [{"role": "user", "content": _text(asked)}]


def _written(asked: Problem | Request, way: Way, rng: random.Random, *, wrong: bool, reasoning: bool = False) -> str:
    """The answer, after a trace where the set has them: of a problem its working, of a story whom it is about."""
    style, manner = way
    if isinstance(asked, Problem):
        steps = worked(asked, rng, wrong=wrong)
        trace, answer = "\n".join(map(str, steps)), write(asked, steps, style, rng)
    else:
        trace, answer = f"About {asked.name} and {asked.thing}.", tell(asked, manner, rng, poor=wrong)
    return f"<think>\n{trace}\n</think>\n\n{answer}" if reasoning else answer


def _mark(source: Source) -> str:
    """What the source column holds for a source."""
    first = source.match[0] if isinstance(source.match, list) else source.match
    return first or source.name
