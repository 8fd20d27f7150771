"""`keep_best`: the weights of the best step so far, saved by the trainer's own save while it trains.

After each measurement the new step and the kept one are put to the rule of `divmon.scoring.best_point`; where the new
one is chosen, it takes the other's place in `<run directory>/best`. One folder is kept, whatever else is written.
"""

from __future__ import annotations

from typing import Any

from divmon.options import Options
from divmon.scoring.best_point import NoChoice, Point, choose, point_of, unsound
from divmon.storage import best
from divmon.storage.writer import Store, read_run
from divmon.training.live_run import LiveRun
from divmon.training.sharded_models import unwrapped
from divmon.types import Snapshot


def check(options: Options, processes: int) -> None:
    """Raises ValueError where one of several processes alone would save, for which the others would have to come."""
    if options.keep_best and processes > 1 and options.processes == "main":
        raise ValueError(
            "keep_best: all processes save together, and with processes='main' only one of them measures; expected"
            " processes='all', or keep_best=False and save_steps of the trainer's"
        )


def begin(live: LiveRun) -> None:
    """Before the first evaluation: sets right what a process that was killed while it saved has left."""
    if live.store is not None:
        best.recover(live.store.path)


def keep_if_better(live: LiveRun, snapshot: Snapshot | None, trainer: Any, model: Any) -> None:
    """Saves this measurement's weights where the rule prefers them to what is kept; every process must call it.

    Args:
        snapshot: what the main process has just measured; None in the others, or where nothing was.
        trainer: a transformers Trainer, whose own save writes shards and adapters as its checkpoints are; the model and
            the tokenizer write themselves where None.

    Raises:
        OSError, RuntimeError: it could not be written; what was kept is still there.
    """
    store = live.store
    why = live.processes.decide(lambda: better(store, snapshot) if store and snapshot else "", otherwise="")
    if not why:
        return
    folder = live.processes.tell(str(best.being_written(store.path)) if store else "")
    if store:
        best.recover(store.path)
    if hasattr(trainer, "save_model"):
        trainer.save_model(folder, _internal_call=True)  # without it, it would also push to the hub
    elif store:
        unwrapped(model).save_pretrained(folder)
        if live.asking is not None:
            live.asking.renderer.tokenizer.save_pretrained(folder)
    if store and snapshot:
        point = point_of(snapshot)
        accuracy = point.accuracy.value if point.graded else None
        facts = {"step": point.step, "why": why, "accuracy": accuracy, "figure": point.figure, "kept": point.kept}
        facts["diversity"] = point.diversity.value
        best.put_in_place(store.path, facts)
        store.update(best=facts)


def better(store: Store, snapshot: Snapshot) -> str:
    """Why this measurement takes the place of what is kept; "" where it does not.

    Raises:
        NoChoice: nothing that a choice could be made by was measured.
    """
    if unsound(snapshot) or snapshot.step == store.manifest.get("reference_step"):
        return ""
    now, kept = point_of(snapshot), _kept(store, snapshot.step)
    if kept is None:
        return "the first evaluation of this training"
    try:
        chosen = choose([kept, now])
    except NoChoice:  # nothing is graded and neither kept enough
        return "more of the reference's diversity is left than in the one before" if now.kept > kept.kept else ""
    return chosen.why if chosen.point is now else ""


def _kept(store: Store, before: int) -> Point | None:
    """The kept step; None where there is none, or where training went back to before it."""
    step = best.best_step(store.path)
    if step is None or step not in store.steps() or step >= before:
        return None
    try:
        return point_of(read_run(store.path).read(step, samples=False))
    except (ValueError, KeyError):
        return None  # damaged, or without its figure: the next evaluation takes its place


def closing_line(live: LiveRun) -> str | None:
    """What was kept, for the end of a run; None where nothing was."""
    store = live.store
    step = None if store is None else best.best_step(store.path)
    if store is None or step is None:
        return None
    point = _kept(store, step + 1)
    why = (store.manifest.get("best") or {}).get("why", "")
    return f"divmon: kept as best in {store.path / best.BEST}: {point or f'step {step}'}; {why}"
