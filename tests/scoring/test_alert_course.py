"""Alerts from evaluation to evaluation: the spending, what stands and what is new, actions, stored runs."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import alert_simulation as simulated
from support import runs
from support.alert_simulation import Truth
from test_alerts import both_snapshots, judged, snapshot
from transformers import TrainerControl

from divmon import DiversityCallback
from divmon.scoring.alerts import ALPHA, Alert, Alerts, act, actions, replay, replay_alerts
from divmon.scoring.alerts.hypotheses import DELTA, TESTS, Figures
from divmon.scoring.reference import Measurement
from divmon.storage.reader import read_run
from divmon.storage.writer import Store
from divmon.types import Score, Snapshot, plain


def healthy(step: int = 0, scale: float = 1.0, tasks: int = 1, **figures: Any) -> Snapshot:
    generator = np.random.default_rng(step)
    base = np.linspace(0.2, 0.6, 64)
    scores = [simulated.score(f"task{i}", "sbert", scale * base * generator.normal(1, 0.1, 64)) for i in range(tasks)]
    return Snapshot(step, [], scores=[*scores, *figures.pop("scores", [])], **figures)


def test_all_looks_together_spend_alpha_and_no_more() -> None:
    for planned in (0, 1, 20, 50):
        alerts = Alerts(simulated.probes(3), healthy(tasks=3), planned_looks=planned)
        assert len(alerts.tests) == 3
        levels = [3 * alerts.level(look) for look in range(1, 20_000)]
        assert sum(levels[:planned]) == pytest.approx(ALPHA * planned / (planned + 1))
        assert ALPHA * 0.999 < sum(levels) < ALPHA
        assert all(a >= b for a, b in pairwise(levels))


def test_what_is_fixed_at_the_start_stays_in_a_resumed_run() -> None:
    first = Alerts(simulated.probes(2), healthy(tasks=2), planned_looks=7, delta=0.1)
    later = Alerts(simulated.probes(2), healthy(tasks=2), **plain(first.record()))
    assert later.record() == first.record() and later.level(3) == first.level(3)
    assert later.look(healthy(1, 0.5, 2)) == first.look(healthy(1, 0.5, 2)) != []
    gone = Alerts(simulated.probes(1), healthy(), **plain(first.record()))
    assert [a.task for a in gone.look(healthy(1, 0.5))] == ["task0"], "a task that is asked no longer is no error"


def test_an_alert_stands_until_the_loss_is_made_good_and_is_new_once() -> None:
    alerts = Alerts(simulated.probes(1), healthy(), planned_looks=5)
    seen = [
        alerts.look(healthy(step, scale)) for step, scale in ((10, 1.0), (20, 0.7), (30, 0.6), (40, 1.0), (50, 0.7))
    ]
    assert [[(a.since, a.new) for a in found] for found in seen] == [[], [(20, True)], [(20, False)], [], [(50, True)]]


def test_the_line_holds_the_evidence() -> None:
    before, now = both_snapshots(*judged(2, 1.0, 0.5, 0.3, 0.4, prompts=40))
    entry = {
        **now.decomposition["task0"]["sbert"],
        **{"change": -0.2, "quality_control": 0.1, "narrowing_correct": -0.3, "narrowing_wrong": 0.0},
        **{"narrowing_cross": None, "labels": {"wrong": "mostly unseen"}},
    }
    alerts = Alerts(simulated.probes(1, 40), before, planned_looks=5)
    found = {a.kind: a for a in alerts.look(now.replace(step=300, decomposition={"task0": {"sbert": entry}}))}
    assert set(found) == {"narrowing", "narrowing_correct"}
    alert = found["narrowing"]
    assert alert.low < alert.change < alert.high < 0 and alert.t > alert.threshold > 3 and len(alert.prompts) == 3
    said = [
        "NARROWING of task0 at step 300: sbert minus what better answers take away fell by 0.2",
        "against step 0\n",
        f"\nRead the completions of prompts {', '.join(alert.prompts)} beside those of the reference",
        "\nEvidence: n 40, t ",
        "decomposition: -0.200 = +0.100 quality control, -0.300 narrowing among correct answers, +0.000 change among",
        "(mostly unseen)",
        f"accuracy {before.score('task0', 'accuracy').mean:.2f} to {now.score('task0', 'accuracy').mean:.2f}",
    ]
    for words in said:
        assert words in alert.text, alert.text
    assert len(alert.text.splitlines()) == 3 and "pairs of correct answers" in found["narrowing_correct"].text


def test_every_kind_has_words_for_it() -> None:
    shares = {"repetition": 0.5, "empty": 0.4, "clipped_ratio": 0.6, "truncated": 0.6, "no_answer": 0.6}
    then, now = ({name: [times * share] * 8 for name, share in shares.items()} for times in (0, 1))
    before = snapshot(length_tokens=[20.0] * 8, **then)
    before.scores.append(Score("task0", "traced", 0.9, 0.85, 0.95, 8))
    alerts = Alerts(simulated.probes(1, 8), before)
    collapsed = snapshot(5, length_tokens=[200.0] * 8, **now)
    collapsed.scores.append(Score("task0", "traced", 0.1, 0.05, 0.15, 8))
    found = {a.kind: a.text for a in alerts.look(collapsed)}
    assert set(found) == {"templating", "repetition", "length", "truncation"}
    assert "50 % of a text that repeats itself (+50 points [50, 50])" in found["repetition"]
    assert "mean length 20 to 200 tokens" in found["length"] and "60 % of completions have no answer" in found["length"]
    assert "fell by 0.800" in found["templating"] and "of 0.900 (89 %)" in found["templating"]
    assert "50 % of all text repeats itself" in found["truncation"] and "raise" not in found["truncation"]
    collapsed.scores[:] = [
        dataclasses.replace(s, mean=0.1, values=(0.1,) * 8) if s.metric == "repetition" else s for s in collapsed.scores
    ]
    found = {a.kind: a.text for a in alerts.look(collapsed)}
    assert "raise max_new_tokens" in found["truncation"], "only of what does not loop"


@pytest.mark.parametrize(("correct", "title"), [(-0.02, "CHANGE AMONG WRONG ANSWERS of"), (-0.05, "NARROWING of")])
def test_an_alert_is_called_by_where_the_change_lies(correct: float, title: str) -> None:
    before, now = both_snapshots(*judged(2, 1.0, 0.5, 0.3, 0.4, prompts=40))
    parts = {"narrowing_correct": correct, "narrowing_wrong": -0.15, "narrowing_cross": -0.1}
    entry = {**now.decomposition["task0"]["sbert"], "change": -0.2, "quality_control": 0.1, **parts}
    alerts = Alerts(simulated.probes(1, 40), before, planned_looks=5)
    found = alerts.look(now.replace(decomposition={"task0": {"sbert": entry}}))
    (text,) = [alert.text for alert in found if alert.kind == "narrowing"]
    assert text.startswith(title) and ("Read the wrong completions" in text) == (correct == -0.02), text


@pytest.mark.parametrize("where", ["now", "reference"])
def test_a_suspicious_sampler_is_named_and_no_collapse(where: str) -> None:
    faulty = {"provenance": {"suspicion": "the prompts may not reach the model"}}
    alerts = Alerts(simulated.probes(1), healthy(**faulty if where == "reference" else {}), planned_looks=5)
    found = alerts.look(healthy(10, 0.2, **faulty if where == "now" else {}))
    assert [(a.kind, a.new) for a in found] == [("sampler", True)]
    assert "the prompts may not reach the model" in found[0].text and "no collapse is called" in found[0].text
    after = alerts.look(healthy(20, 0.2))
    assert [a.kind for a in after] == (["sampler"] if where == "reference" else ["narrowing"])
    assert alerts.looks == 2


def test_what_cannot_be_tested_is_said() -> None:
    few = Alerts(simulated.probes(1, 2), snapshot(sbert=[0.3, 0.4]))
    assert not few.tests and few.look(snapshot(1, sbert=[0.0, 0.0])) == []
    lines = few.opening(Measurement(few.reference), 16)
    assert any("narrowing of task0 is not tested: sbert is defined on 2 prompts" in line for line in lines)
    lexical = Alerts(simulated.probes(1, 4), snapshot(ead=[0.3] * 4))
    assert "none of the pairwise metrics sbert" in "\n".join(lexical.opening(Measurement(lexical.reference), 16))


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"delta": 1.0}, {"alpha": 0.0}, {"planned_looks": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Alerts(simulated.probes(1), healthy(), **wrong)  # type: ignore[arg-type]


def alert(kind: str = "narrowing", since: int = 5) -> Alert:
    return Alert(kind, "task0", 5, since, f"{kind} is there", -0.1, -0.2, -0.05, 64, ("p1",), 5.0, 4.0)


@pytest.mark.parametrize(
    ("given_alert", "flags"),
    [(alert(), (True, True)), (alert(since=1), (False, False)), (alert("truncation"), (False, False))],
)
def test_actions_are_for_what_is_new_and_stopping_for_what_the_model_does(given_alert: Alert, flags: Any) -> None:
    control, said, called = TrainerControl(), [], []
    act([given_alert], actions(["log", "save", "stop", called.append]), control, said.append)
    assert (control.should_save, control.should_training_stop) == flags
    assert bool(said) == bool(called) == given_alert.new
    act([given_alert], actions("log"), None, said.append)


def test_actions_are_named_listed_or_a_function_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def page(alert):\n    alert.found.append(alert)\n")
    assert actions("log, stop") == ("log", "stop") and actions(None) == () and actions(print) == (print,)
    (page,) = actions(f"{tmp_path / 'mine.py'}:page")
    assert callable(page)
    with pytest.raises(ValueError, match="no action 'halt' on an alert; there are log, save, stop"):
        actions("log,halt")
    control = TrainerControl(should_save=True)
    act([alert()], actions("log"), control, lambda line: None)
    assert control.should_save, "what another asked for stays"


def test_a_stored_run_shows_where_alerts_would_have_fired(tmp_path: Path) -> None:
    """The same alerts live, replayed, and live after a resume in the middle."""
    generator = np.random.default_rng(0)
    here, truth = simulated.world(), Truth("", loss=0.3, lossy_tasks=1)
    prompts_T = generator.integers(4096, size=64)
    then = simulated.take(simulated.draw(here, here.before, prompts_T, 64, 1, generator), 0)
    drawn = simulated.draw(here, here.after(truth), prompts_T, 16, 4, generator)
    reference = simulated.snapshot(0, [(then, None)], True)
    losses = (0.0, 0.3, 0.3, 0.0)
    looks = [
        simulated.snapshot(10 * (i + 1), [(simulated.take(drawn, i, 1 - loss), then)], True)
        for i, loss in enumerate(losses)
    ]
    live = Alerts(simulated.probes(1), reference, planned_looks=8)
    store = Store(tmp_path / "_divmon").open({"probes": simulated.probes(1)})
    store.update(alerts=live.record())
    found = []
    store.write(reference)
    for snap in looks[:2]:
        store.write(snap)
        found += live.look(snap)
    resumed, so_far = replay(read_run(tmp_path))
    assert so_far == found and resumed.planned_looks == 8 and resumed.looks == 2
    for snap in looks[2:]:
        store.write(snap)
        found += resumed.look(snap)
    store.close()
    assert replay_alerts(tmp_path) == replay_alerts(read_run(tmp_path)) == found
    assert {a.step for a in found} == {20, 30} and {a.since for a in found} == {20}

    compared = Store(tmp_path / "other").open(
        {"probes": simulated.probes(1), "options": {"reference": str(tmp_path / "_divmon")}}
    )
    compared.write(looks[1])
    compared.close()
    assert {a.step for a in replay_alerts(tmp_path / "other")} == {20}, "its reference is another run's"


def test_a_run_of_nothing_has_nothing_to_look_at(tmp_path: Path) -> None:
    Store(tmp_path).open({"probes": simulated.probes(1)}).close()
    with pytest.raises(ValueError, match="no snapshot"):
        replay_alerts(tmp_path)


def test_a_real_training_run_holds_what_the_tests_need(tmp_path: Path) -> None:
    from support.graded_runs import GOLD, options

    own = options(tmp_path, metrics="ead,sbert,across,repetition", num_samples=4, reference_samples=16)
    callback = DiversityCallback(GOLD, **own)
    runs.sft(tmp_path / "run", [callback], max_steps=20).train()
    reference = callback.monitor._reference
    assert reference is not None
    watching, found = replay(read_run(tmp_path / "divmon"))
    assert watching.tests == [("prompts", kind) for kind in TESTS] and watching.planned_looks == watching.looks == 2
    assert found == [a for a in found if a.t > a.threshold]
    now = Figures(Store(tmp_path / "divmon").read(20), "prompts")
    terms = now.decomposition["sbert"]
    assert np.nanmean(now.within("sbert", "seen")) == pytest.approx(sum(terms["seen"].values()))
    tested = TESTS["narrowing"][0](Figures(reference.snapshot, "prompts"), now, DELTA)
    assert tested is not None and tested.n == terms["n"] and np.isfinite(tested.t)
    lines = watching.opening(reference, 4)
    assert "at each of the 2 evaluations" in lines[0] and "of sbert" in lines[1], lines
