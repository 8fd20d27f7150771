"""`divmon rollouts OUTPUT_DIR`: diversity over an RL run that is over, from the completions that TRL logged."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from divmon import __version__
from divmon.cli.command import argument, command, flag, warn
from divmon.cli.flags import names_of, numbers
from divmon.loggers.terminal import Table, show, show_json

if TYPE_CHECKING:
    from divmon.training.rollouts.trl_completions_log import CompletionsLog
    from divmon.types import Snapshot

OK, PARTLY = 0, 3

BY_STEP = (
    *("reward", "reward_std", "frac_reward_zero_std", "accuracy", "solve_all", "solve_none"),
    *("ead", "distinct_share", "sbert", "sbert_correct", "vendi_at4"),
)
"""Figures of the table by step, those that there are."""

_EPILOG = """frac_reward_zero_std is the share of groups whose rewards are all equal, so that they train nothing;
solve_all and solve_none the shares of groups all right and all wrong.

exit code: 0 all was done; 2 wrong usage, or nothing could be scored; 3 some files or metrics were left out, each named
with its reason on stderr, and the rest was done."""


def threshold(text: str) -> float | dict[str, float]:
    """ "0.5", of the total reward, or "accuracy=0.5,format=0", of reward functions by name.

    Raises:
        ValueError: it is neither.

    >>> threshold("accuracy=0.5")
    {'accuracy': 0.5}
    """
    try:
        if "=" not in text:
            return float(text)
        return {name.strip(): float(value) for name, _, value in (part.rpartition("=") for part in text.split(","))}
    except ValueError:
        raise ValueError(f"expected a number, or name=number[,name=number], got {text!r}") from None


@dataclass
class Flags:
    """Scores the groups of completions that GRPO or RLOO logged: OUTPUT_DIR/completions/*.parquet, which TRL writes
    with log_completions=True. Each file is the last generation batch before a logging step. What changed is relative to
    the first file; prompts differ from file to file, so unless the same prompts come again it is unpaired.

    Correct or wrong: above --threshold; or by --verifier, where a reward function logged the reference answer as a
    column; or, where there is one reward and it is 0 or 1, above 0.5. Else nothing is graded. The files do not tell
    which completions were truncated, so none of these is left out."""

    output_dir: Path = argument("OUTPUT_DIR")
    """The run's, its folder of completions (Parquet of TRL, JSONL, CSV, ...), or one file with all steps."""
    threshold: Any = flag(read=threshold, metavar="T")
    """Correct is a total reward above T, or name=T[,name=T] of reward functions by name."""
    verifier: str | None = flag(metavar="NAME")
    """Grade with this verifier, a name or file.py:function."""
    allow_unsandboxed_code: bool = False
    """Run generated programs even where bubblewrap cannot contain them."""
    num_generations: int | None = flag(metavar="G")
    """Completions per prompt; as the prompts repeat, if not told."""
    rewards: list[str] | None = flag(read=names_of, metavar="NAMES")
    """Columns that are rewards; all that hold numbers, if not told."""
    weights: list[float] | None = flag(read=numbers, metavar="W,W")
    """reward_weights of the run, in the columns' order; 1 each if not told."""
    metrics: str = flag("auto", metavar="NAMES")
    """As for divmon score."""
    embedder: str = flag("auto", metavar="NAME")
    """As for divmon score."""
    device: str | None = flag(metavar="NAME")
    """cpu, cuda, cuda:1, ...; a GPU where there is one, if not told."""
    ead_vocab_size: int = flag(50257, metavar="V")
    """The tokenizer's size, for EAD."""
    max_groups: int = flag(64, metavar="N")
    """Groups of a file that are scored, at most."""
    seed: int = 0
    """Seed of which prompts those are, where there are more."""
    out: Path | None = flag(metavar="DIR")
    """Also write a run directory there, which divmon.read_run reads."""
    json: bool = False
    """All figures as JSON in place of the tables."""


@command("divmon rollouts", epilog=_EPILOG)
def main(given: Flags) -> int:
    """Runs the command and returns its exit code."""
    snapshots, log = _scored(given)
    if given.json:
        show_json(json.dumps(_report(snapshots, log), allow_nan=False, ensure_ascii=False, indent=1))
    else:
        show(*_tables(snapshots, log), gap="\n\n")
    for step, reason in log.left_out.items():
        warn(f"step {step} left out: {reason}")
    return PARTLY if log.left_out or any(s.provenance["left_out"] for s in snapshots) else OK


def _scored(given: Flags) -> tuple[list[Snapshot], CompletionsLog]:
    from divmon.scoring.scorer import Scorer
    from divmon.training.rollouts.groups import Draw
    from divmon.training.rollouts.scores import GroupScorer
    from divmon.training.rollouts.trl_completions_log import read_completions
    from divmon.training.rollouts.verdicts import GroupJudge

    log = read_completions(given.output_dir, given.num_generations, rewards=given.rewards)
    if given.weights is not None and len(given.weights) != len(log.names):
        raise ValueError(f"--weights: expected one for each of {', '.join(log.names)}, got {len(given.weights)}")
    judge = GroupJudge(
        log.names,
        given.weights,
        threshold=given.threshold,
        verifier=given.verifier,
        allow_unsandboxed_code=given.allow_unsandboxed_code,
        say=warn,
    )
    scorer = Scorer(
        given.metrics, embedder=given.embedder, device=given.device, vocab_size=given.ead_vocab_size, seed=given.seed
    )
    scoring = GroupScorer(scorer, judge)
    store = _store(given.out, given, log, scorer) if given.out else None
    snapshots = []
    for step in log.steps:
        draw = Draw(given.max_groups, given.seed)
        for group in log.groups(step):
            draw.add(group)
        snapshots.append(scoring.snapshot(draw.take(), step))
        if store is not None:
            store.write(snapshots[-1])
    if store is not None:
        store.close()
    return snapshots, log


def _store(out: Path, given: Flags, log: CompletionsLog, scorer: Any) -> Any:
    from divmon.storage.writer import Store

    return Store(out, max_samples_mb=1e6, say=warn).open(  # no more than the logs, which lie there already
        {
            "kind": "rollouts",
            "completions": str(given.output_dir),
            "num_generations": log.num_generations,
            "reward_functions": log.names,
            "reward_weights": given.weights,
            "metrics": scorer.names,
            "figures": scorer.figures.record(),
            "encoders": scorer.encoders(),
            "max_groups": given.max_groups,
            "seed": given.seed,
        }
    )


def _tables(snapshots: Sequence[Snapshot], log: CompletionsLog) -> list[Table | str]:
    first, last = snapshots[0], snapshots[-1]
    there = [name for name in BY_STEP if any(score.metric == name for score in first.scores)]
    rows = [
        [str(s.step), str(s.provenance["groups"]), *(_number(_score(s, name)) for name in there)] for s in snapshots
    ]
    rewards = ", ".join(log.names)
    blocks: list[Table | str] = [
        f"groups of {log.num_generations} completions; rewards: {rewards}; {last.provenance['verdicts']}",
        Table(["step", "groups", *there], rows),
    ]
    if last.changes:
        shown = [c for c in last.changes if c.metric in there or "/" in c.metric]
        changes = [
            [c.metric, *map(_number, (c.reference, c.now)), _number(c.change, "+"), _interval(c.low, c.high)]
            for c in shown
        ]
        head = ["metric", "then", "now", "change", "95% interval"]
        blocks.append(Table(head, changes, title=f"step {last.step} {last.provenance['compared']}"))
    return blocks


def _report(snapshots: Sequence[Snapshot], log: CompletionsLog) -> dict[str, Any]:
    from divmon.types import plain

    def figures(scores: Sequence[Any], *names: str) -> dict[str, Any]:
        return {s.metric: {name: getattr(s, name) for name in names} | {"ci95": [s.low, s.high]} for s in scores}

    steps = [
        {
            "step": s.step,
            "groups": s.provenance["groups"],
            "groups_seen": s.provenance["groups_seen"],
            "metrics": figures(s.scores, "mean", "n"),
            "compared": s.provenance["compared"],
            "changes": figures(s.changes, "reference", "now", "change", "n"),
            "decomposition": s.decomposition.get("rollouts", {}),
        }
        for s in snapshots
    ]
    about = {
        "num_generations": log.num_generations,
        "rewards": log.names,
        "correctness": snapshots[-1].provenance["verdicts"],
        "left_out": log.left_out,
        "divmon": __version__,
    }
    return plain(about | {"steps": steps})


def _score(snapshot: Snapshot, name: str) -> float:
    return next((score.mean for score in snapshot.scores if score.metric == name), math.nan)


def _number(value: float, sign: str = "") -> str:
    return "-" if math.isnan(value) else f"{value:{sign}.3f}"


def _interval(low: float, high: float) -> str:
    return "" if math.isnan(low) else f"{_number(low, '+')} to {_number(high, '+')}"
