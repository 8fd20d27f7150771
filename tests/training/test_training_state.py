"""What belongs to one training ends with it: reuse, retries, interruptions, copies."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from support import runs, tiny
from transformers import TrainerCallback

import divmon
from divmon import DiversityCallback
from divmon.training.config import given_options
from divmon.training.loop_state import Host, Moment
from divmon.training.training_run import TrainingRun


class RaiseAt(TrainerCallback):
    """Ends a training as an error or Ctrl-C in a step does."""

    def __init__(self, step: int, error: BaseException) -> None:
        self.step, self.error = step, error

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise self.error


def callback(**options: Any) -> DiversityCallback:
    return DiversityCallback(runs.PROBES, **{**runs.CHEAP, "progress": False, **options})


def samples_at(run: Any, step: int) -> int:
    return int((run.samples.step == step).sum())


def test_a_second_training_begins_with_nothing_of_the_first(tmp_path: Path) -> None:
    used = callback()
    for name in ("a", "b"):
        trainer = runs.sft(tmp_path / name, [used], runs.model(seed=1 if name == "b" else 0), max_steps=10)
        trainer.train()
        assert used.failures == []
    first, second = (divmon.read_run(tmp_path / name) for name in ("a", "b"))
    assert first.steps == second.steps == [0, 10]
    assert samples_at(second, 0) == samples_at(first, 0) == len(runs.PROBES) * 4, (
        "a reference of its own, and a large one"
    )
    assert first.samples.text.tolist() != second.samples.text.tolist()
    assert (second.changes.step == 10).all()
    alone = runs.sft(tmp_path / "c", [callback()], runs.model(seed=1), max_steps=10)
    alone.train()
    third = divmon.read_run(tmp_path / "c")
    assert third.changes.drop(columns="epoch", errors="ignore").equals(
        second.changes.drop(columns="epoch", errors="ignore")
    )


@pytest.mark.parametrize("error", [ValueError("a step went wrong"), KeyboardInterrupt()], ids=["error", "ctrl-c"])
@pytest.mark.parametrize("same_callback", [True, False])
def test_a_training_after_one_that_never_ended(tmp_path: Path, error: BaseException, same_callback: bool) -> None:
    used = callback(every=2)
    kept = [used]  # as a notebook keeps what it has shown
    with pytest.raises(type(error)):
        runs.sft(tmp_path, [used, RaiseAt(3, error)], max_steps=6).train()
    if not same_callback:
        kept.append(callback(every=2))
    runs.sft(tmp_path, kept[-1:], max_steps=6).train()
    assert kept[-1].failures == []
    assert divmon.read_run(tmp_path).steps == [0, 2, 4, 6]
    (aside,) = tmp_path.glob("_divmon-*")
    assert divmon.read_run(aside).steps == [0, 2], "what the first one measured is kept beside"


def test_a_batch_size_that_is_searched_for(tmp_path: Path) -> None:
    """`auto_find_batch_size` begins the training anew, inside of one `train()`, after an out-of-memory."""

    class Tight(TrainerCallback):
        tries = 0

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2 and not self.tries:
                self.tries += 1
                raise torch.OutOfMemoryError("CUDA out of memory.")

    used = callback(every=2)
    runs.sft(tmp_path, [used, Tight()], max_steps=4, auto_find_batch_size=True).train()
    assert used.failures == []
    assert divmon.read_run(tmp_path).steps == [0, 2, 4]


def test_a_training_inside_of_a_training_is_refused_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    used = callback(every=2)

    class Inner(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                runs.sft(tmp_path / "inner", [used], max_steps=2).train()

    runs.sft(tmp_path / "outer", [used, Inner()], max_steps=6).train()
    assert "is at work in a training already; the one inside of it is not measured" in capsys.readouterr().out
    assert divmon.read_run(tmp_path / "outer").steps == [0, 2, 4, 6]
    assert not (tmp_path / "inner" / "_divmon").exists()


def test_a_resumed_run_keeps_the_failures_the_price_and_the_seconds_before_it(tmp_path: Path) -> None:
    def fails_at(step: int) -> Any:
        def alert(found: Any) -> None: ...

        class Failing(TrainerCallback):
            def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if state.global_step == step - 1:
                    live = used.monitor
                    take = live.take
                    live.take = lambda *a, **k: (setattr(live, "take", take), 1 / 0)[1]

        return Failing()

    used = callback(every=2)
    runs.sft(tmp_path, [used, fails_at(2)], max_steps=4, save_strategy="steps", save_steps=4).train()
    before = divmon.read_run(tmp_path).manifest
    assert [failure["step"] for failure in before["failures"]] == [2]
    used = callback(every=2)
    trainer = runs.sft(tmp_path, [used, fails_at(6)], max_steps=8, save_strategy="no")
    trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    now = divmon.read_run(tmp_path).manifest
    assert [failure["step"] for failure in now["failures"]] == [2, 6]
    assert [price["step"] for price in now["prices"]] == [0, 4] and now["price"] == before["price"]
    assert now["seconds"]["run"] > before["seconds"]["run"] and now["seconds"]["monitor"] > before["seconds"]["monitor"]


def test_a_callback_that_is_kept_keeps_no_model_alive(tmp_path: Path) -> None:
    used = callback(every=2)
    trainer = runs.sft(tmp_path, [used], max_steps=2)
    trainer.train()
    model = weakref.ref(trainer.model)
    del trainer
    gc.collect()
    assert model() is None and used.failures == []


@pytest.mark.parametrize("how", [copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))], ids=["deepcopy", "pickle"])
def test_a_copy_of_the_callback_has_its_options_and_no_training(tmp_path: Path, how: Any) -> None:
    used = callback(every=2)
    copies = [how(used)]

    class Copying(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 3:
                copies.append(how(used))

    runs.sft(tmp_path / "a", [used, Copying()], max_steps=4).train()
    copies.append(how(used))
    assert divmon.read_run(tmp_path / "a").steps == [0, 2, 4]
    for i, made in enumerate(copies):
        assert made.options == used.options and made.monitor is None and made.failures == []
        runs.sft(tmp_path / str(i), [made], max_steps=2).train()
        assert divmon.read_run(tmp_path / str(i)).steps == [0, 2]


def test_what_cannot_be_pickled_is_refused_in_words_and_copied_all_the_same() -> None:
    used = callback(metrics=["ead", lambda lengths_PK: lengths_PK])
    with pytest.raises(TypeError, match=r"its metrics holds .*lambda.*expected a function of a module, or its name as"):
        pickle.dumps(used)
    assert copy.deepcopy(used).options == used.options
    assert copy.copy(used).options is used.options and copy.copy(used).monitor is None


def test_a_search_for_hyperparameters(tmp_path: Path) -> None:
    """Optuna's trials, one of them pruned: each is a run of its own, and the next moves it aside."""
    optuna = pytest.importorskip("optuna")

    class SecondTrial(optuna.pruners.BasePruner):
        def prune(self, study: Any, trial: Any) -> bool:
            return bool(trial.number == 1)

    optuna.logging.disable_default_handler()
    used = callback(every=2)
    trainer = runs.plain_trainer(tmp_path, [used], max_steps=2, eval_strategy="steps", eval_steps=1)
    trainer.model_init = lambda trial=None: runs.model()
    best = trainer.hyperparameter_search(
        hp_space=lambda trial: {"learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-3)},
        n_trials=3,
        direction="minimize",
        backend="optuna",
        pruner=SecondTrial(),
    )
    assert best.run_id in ("0", "2") and used.failures == []
    stored = [divmon.read_run(path.parent) for path in tmp_path.rglob("manifest.json")]
    assert sorted(run.steps for run in stored) == [[0, 1], [0, 2], [0, 2]], "a pruned trial ends as any other"
    assert all(set(run.changes.step) <= {1, 2} for run in stored)


def test_a_schedule_of_evaluations_alone(tmp_path: Path) -> None:
    used = callback(every=None, at_start=False, at_end=False, on_evaluate=True)
    runs.sft(tmp_path, [used], max_steps=6, eval_strategy="steps", eval_steps=2).train()
    assert used.failures == []
    assert divmon.read_run(tmp_path).steps == [2, 4, 6]


def test_a_loop_of_ones_own_has_schedule_budget_and_alerts(tmp_path: Path) -> None:
    """Without transformers' Trainer: the same object, told where the loop stands."""
    model, tokenizer = runs.model(), tiny.tokenizer(runs.TEXTS)
    options = given_options(None, {"probes": runs.PROBES, **runs.CHEAP, "every": 3, "progress": False})
    run = TrainingRun(options, Host(str(tmp_path / "_divmon"), max_steps=7, loggers=[]), model)
    run.begin(Moment(0, model), tokenizer)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    for step in range(1, 8):
        ids = tokenizer(runs.TEXTS[step], return_tensors="pt").input_ids
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        moment = Moment(step, model, last=step == 7)
        run.step_end(moment)
        assert not moment.signals.should_training_stop
    run.end(moment)
    assert run.failures == [] and divmon.read_run(tmp_path).steps == [0, 3, 6, 7]
