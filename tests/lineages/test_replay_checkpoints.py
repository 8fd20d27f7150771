"""`divmon replay --checkpoints` on folders that stand for the repositories: real tiny models, the real command."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import forks, runs, tiny
from test_served import SERVER

from divmon import DiversityConfig, cli
from divmon.lineages.published import catalog as published
from divmon.lineages.published.hub import Hub
from divmon.lineages.published.measure import PROTOCOL, Replay
from divmon.lineages.watch.checkpoints import Loader
from divmon.storage.reader import read_run

CHAT = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"
CHAT += "{% if add_generation_prompt %}<|im_start|>OPEN{% endif %}"
TEMPLATES = {
    "Olmo-3-1025-7B": None,
    "Olmo-3-7B-Think-SFT": None,
    "Olmo-3-7B-Think-SFT@step1000": None,
    "Olmo-3-7B-Think-SFT@step2000": None,
    "Olmo-3-7B-Think-DPO": CHAT.replace("OPEN", "<think>"),
    "Olmo-3-7B-Instruct-SFT": CHAT.replace("OPEN", ""),
    "Olmo-3-7B-RL-Zero-Math": CHAT.replace("OPEN", "<think>"),
}
"""What is published, with its chat template. That of RL-Zero must not be used."""
THINK_SFT = "allenai/Olmo-3-7B-Think-SFT"
MODELS = "base,think-sft,think-dpo,instruct-sft,rl-zero-math"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """hub/ with the repositories, gsm8k.jsonl, divmon.yaml."""
    folder = tmp_path_factory.mktemp("published")
    for seed, (name, template) in enumerate(TEMPLATES.items()):
        runs.model(seed=seed).save_pretrained(folder / "hub/allenai" / name)
        tiny.tokenizer(runs.TEXTS, template).save_pretrained(folder / "hub/allenai" / name)
    rows = [{"question": row["prompt"], "answer": f"#### {i}"} for i, row in enumerate(runs.ROWS[::16])]
    (folder / "gsm8k.jsonl").write_text("\n".join(map(json.dumps, rows)))
    cheap = {"metrics": "ead,length", "num_samples": 2, "reference_samples": 4, "max_new_tokens": 8, "progress": False}
    (folder / "divmon.yaml").write_text(json.dumps(cheap))
    gc.freeze()  # each measurement ends with a collection, which would look at all that is imported here
    yield folder
    gc.unfreeze()


def words(made: Path, out: Path, *more: str, hub: Path | None = None) -> list[str]:
    which = ["--checkpoints"] if not any(word.startswith("--checkpoints") for word in more) else []
    where = ["--local", str(hub or made / "hub"), "--out", str(out), "--config", str(made / "divmon.yaml")]
    return ["replay", *which, *where, "--tasks", f"gsm8k@{made / 'gsm8k.jsonl'}", "--device", "cpu", *more]


def replay(made: Path, out: Path, *more: str, hub: Path | None = None) -> int:
    return cli.main(words(made, out, *more, hub=hub))


def files(run: Path) -> dict[str, tuple[int, bytes]]:
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in (run / "_divmon/snapshots").iterdir()}


@pytest.fixture(scope="module")
def measured(made: Path) -> Path:
    """The paper's models, as many as there are."""
    assert replay(made, made / "out", "--models", MODELS) == 0
    return made / "out/paper"


def test_each_is_stored_by_its_place_and_asked_as_the_paper_says(made: Path, measured: Path) -> None:
    run = read_run(measured)
    facts = run.provenance
    named = {step: (f["stage"], f["lineage"], f["asked"]) for step, f in facts.items()}
    assert named == {
        0: ("base", None, "plain"),
        1: ("think-sft", "Think", "think"),
        2: ("think-dpo", "Think", "think"),
        4: ("instruct-sft", "Instruct", "chat"),
        7: ("rl-zero-math", "RL-Zero Math", "plain"),
    }
    question = f"Question: {runs.PROBES[0]['prompt']}\n\nAnswer:"
    turn = f"<|im_start|>{question}<|im_end|><|im_start|>"
    shown = [facts[step]["rendered_prompt"] for step in named]
    assert shown == [question, f"{turn}<think>", f"{turn}<think>", turn, question]
    assert facts[1]["tokenizer"].endswith("Think-DPO"), "its own has no template"
    assert [facts[s]["num_samples"] for s in named] == [4, 2, 2, 2, 2]
    assert facts[4]["checkpoint"] == "allenai/Olmo-3-7B-Instruct-SFT"
    texts = run.samples.groupby("step")["text"].agg(tuple)
    assert len(set(texts[[0, 4, 7]])) == 3, "different models"
    assert run.manifest["options"]["top_p"] == 0.95 and run.manifest["options"]["temperature"] == 0.6
    frame = pd.read_csv(measured / "paper_overlay.csv")
    assert list(frame["model"].unique()) == MODELS.split(",")
    assert frame.query("metric == 'ead' and model == 'base'")["measured"].notna().all()


def test_compare_attributes_what_each_stage_took(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", str(measured), "--metric", "ead"]) == 0
    printed = capsys.readouterr().out.partition("What each stage takes")[2]
    rows = [line.split() for line in printed.splitlines() if line.startswith("paper")]
    assert [row[:3] for row in rows if row[1] == "Instruct"] == [["paper", "Instruct", "instruct-sft"]]
    assert any(row[:4] == ["paper", "RL-Zero", "Math", "rl-zero-math"] for row in rows)


def test_again_nothing_is_measured_twice_and_what_came_is_added(
    made: Path, measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(measured, tmp_path / "out/paper")
    shutil.copytree(made / "hub/allenai/Olmo-3-7B-Think-DPO", tmp_path / "hub/allenai/Olmo-3-7B-Think-DPO")
    before = files(tmp_path / "out/paper")
    assert replay(made, tmp_path / "out", "--models", MODELS, hub=tmp_path / "hub") == 0, "they are there already"
    assert files(tmp_path / "out/paper") == before
    more = f"{MODELS},think,think-dpo-nocot"
    assert replay(made, tmp_path / "out", "--models", more, hub=tmp_path / "hub") == 3
    after = files(tmp_path / "out/paper")
    assert after.items() >= before.items() and read_run(tmp_path / "out/paper").steps == [0, 1, 2, 4, 7, 14]
    nocot = read_run(tmp_path / "out/paper").provenance[14]
    assert nocot["rendered_prompt"].endswith("<think>\n</think>\n") and nocot["lineage"] == "Think, no thought"
    error = capsys.readouterr().err.strip()
    assert error.count("not measured: think: the hub cannot be reached") == 1
    assert (
        "the hub cannot be reached" in json.loads((tmp_path / "out/paper/replay.json").read_text())["failures"]["think"]
    )
    shutil.copytree(made / "hub/allenai/Olmo-3-7B-Think-DPO", tmp_path / "hub/allenai/Olmo-3-7B-Think")
    assert replay(made, tmp_path / "out", "--models", more, hub=tmp_path / "hub") == 0
    whole = read_run(tmp_path / "out/paper")
    assert whole.steps == [0, 1, 2, 3, 4, 7, 14] and whole.provenance[3]["stage"] == "think", "in its own place"
    assert files(tmp_path / "out/paper").items() >= after.items()
    assert json.loads((tmp_path / "out/paper/replay.json").read_text())["failures"] == {}


def test_a_replay_goes_on_only_with_the_settings_it_began_with(
    made: Path, measured: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(measured)
    assert replay(made, measured.parent, "--models", MODELS, "--divmon_temperature", "1.0") == 2
    assert "was begun with temperature = 0.6, now it is 1.0; give another --out" in capsys.readouterr().err
    assert replay(made, measured.parent, "--models", MODELS, "--sampler", "generate") == 0, "how, not what"
    assert files(measured) == before


def test_reasoning_has_room_of_its_own_under_the_tasks_limits(made: Path, tmp_path: Path) -> None:
    words = ["--models", "base,think-dpo", "--limits", "task", "--divmon_max_reasoning_tokens", "5"]
    assert replay(made, tmp_path, *words) == 0
    facts = read_run(tmp_path / "paper").provenance
    assert [facts[step]["decoding"]["gsm8k"]["max_new_tokens"] for step in (0, 2)] == [8, 13]


def test_completions_that_were_not_drawn_are_named(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(made, tmp_path, "--models", "base", "--divmon_timeout", "1e-6") == 3
    assert "divmon replay: base has 0 of 16 completions: " in capsys.readouterr().err


def test_any_sampler_draws(made: Path, tmp_path: Path) -> None:
    assert replay(made, tmp_path, "--models", "base", "--sampler", "generate") == 0
    assert read_run(tmp_path / "paper").provenance[0]["sampler"] == "generate"


def test_branches_by_their_step_from_what_training_started_with(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(made, tmp_path, "--checkpoints", THINK_SFT, "--branches", "step*") == 0
    folder = tmp_path / "allenai--Olmo-3-7B-Think-SFT"
    before = files(folder)
    assert replay(made, tmp_path, f"--checkpoints={THINK_SFT}") == 0
    assert files(folder).items() >= before.items()
    run = read_run(folder)
    assert run.steps == [0, 1000, 2000, 2001]
    assert [run.provenance[s]["name"] for s in run.steps] == ["base", "step1000", "step2000", "main"]
    assert len({run.provenance[s]["rendered_prompt"] for s in run.steps}) == 1, "only the weights differ"
    paths = {Path(run.provenance[s]["path"]).name for s in run.steps}
    assert paths == {"Olmo-3-1025-7B", *(name for name in TEMPLATES if "Think-SFT" in name)}
    assert set(pd.read_csv(folder / "paper_overlay.csv")["model"]) == {"think-sft"}, "of the finished model alone"
    assert len(run.changes.query("metric == 'ead'")) == 3
    capsys.readouterr()
    assert replay(made, tmp_path, "--checkpoints", THINK_SFT, "--revision", "step1000", "--dry-run") == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in shown] == ["name", "base", "step1000"]
    assert len(list(tmp_path.iterdir())) == 1


def test_one_that_is_spoilt_is_recorded_and_the_others_go_on(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(made / "hub", tmp_path / "hub")
    (tmp_path / "hub/allenai/Olmo-3-7B-Think-DPO/model.safetensors").unlink()
    (tmp_path / "hub/allenai/Olmo-3-7B-Instruct-SFT/chat_template.jinja").unlink()
    assert replay(made, tmp_path / "out", "--models", MODELS, hub=tmp_path / "hub") == 3
    assert read_run(tmp_path / "out/paper").steps == [0, 1, 7]
    error = capsys.readouterr().err
    assert "not measured: think-dpo: OSError: " in error
    assert "not measured: instruct-sft: ValueError: chat=True, but the tokenizer" in error


def test_with_no_hub_and_nothing_there_one_error_is_said_and_nothing_lost(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hub").mkdir()
    assert replay(made, tmp_path / "out", hub=tmp_path / "hub") == 3
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].count("the hub cannot be reached") == 1
    assert all(name in error[0] for name in published.THIRTEEN)
    assert not (tmp_path / "out/paper/_divmon").exists()
    assert replay(made, tmp_path / "out", "--models", "base") == 0, "it goes on where it can be had"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--branches", "step*"], "--branches and --revision are of one repository"),
        (["--checkpoints", THINK_SFT, "--models", "base"], "--models is of the paper's"),
        (["--checkpoints", THINK_SFT, "--branches", "step9*"], "none of the branches of"),
        (["--checkpoints", "someone/absent", "--branches", "step*"], "matches 'step*'; there are main"),
        (["--models", "thinking"], "matches 'thinking'; there are base, think-sft"),
        (["--tasks", "gsm8k@absent.jsonl"], "there is no file 'absent.jsonl'"),
        (["--tasks", "nonsense"], "no task named 'nonsense'"),
        (["--device", "cuda:77"], "device: cannot use 'cuda:77'"),
        (["--divmon_think", "both"], "think: 'both' would ask each model twice"),
        (["--divmon_embedder", "/absent", "--divmon_metrics", "sbert", "--models", "base"], "/absent"),
        (["--serve", "no-such-server {checkpoint} {port}"], "there is no program 'no-such-server'"),
        (["--local", "absent"], "--local: there is no folder 'absent'"),
    ],
)
def test_what_cannot_be_done_is_said_at_once(
    made: Path, tmp_path: Path, given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert replay(made, tmp_path, *given) == 2
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("*/_divmon/snapshots/*.json"))


def test_of_a_task_as_many_prompts_as_the_paper_asks(tmp_path: Path) -> None:
    rows = [{"question": str(i), "answer": f"#### {i}", "best_answer": "a"} for i in range(900)]
    rows = [row | {"correct_answers": ["a"], "incorrect_answers": ["b"]} for row in rows]
    for name in ("gsm8k", "truthfulqa"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))

    spec = f"gsm8k@{tmp_path},truthfulqa@{tmp_path}"
    assert [len(probe.prompts) for probe in published.paper_probes(spec)] == [500, 817]
    assert [len(probe.prompts) for probe in published.paper_probes(spec, 64)] == [64, 64]


class Observed(Loader):
    """Notes whether the model before was gone when the next was loaded."""

    seen: list[weakref.ref] = []  # noqa: RUF012 - the dataclass is frozen
    held: list[bool] = []  # noqa: RUF012

    def model(self, name: Any) -> Any:
        self.held.append(any(ref() is not None for ref in self.seen))
        model = super().model(name)
        self.seen.append(weakref.ref(model))
        return model


def test_a_model_is_gone_before_the_next_is_loaded(made: Path, tmp_path: Path) -> None:
    given = json.loads((made / "divmon.yaml").read_text()) | {"probes": f"gsm8k@{made / 'gsm8k.jsonl'}"}
    checkpoints = published.paper_checkpoints(["base", "think-dpo", "instruct-sft"])
    config = DiversityConfig(**PROTOCOL | given)
    assert Replay(tmp_path, checkpoints, config, Hub(made / "hub"), Observed("cpu")).run() == 0
    assert Observed.held == [False, False, False]


def test_a_server_for_each_checkpoint(made: Path, tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    serve = f"{sys.executable} '{tmp_path}/server.py' {{checkpoint}} {{port}} well '{tmp_path}/pids'"
    assert replay(made, tmp_path, "--models", "base,instruct-sft", "--serve", serve) == 0
    run = read_run(tmp_path / "paper")
    assert run.steps == [0, 4] and {f["sampler"] for f in run.provenance.values()} == {"server"}
    texts = run.samples.groupby("step")["text"].agg(set)
    assert texts[0] != texts[4]
    for pid in (tmp_path / "pids").read_text().split():
        stat = Path(f"/proc/{pid}/stat")
        assert not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -9), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_replay_that_is_ended_goes_on_without_doubles(made: Path, tmp_path: Path, number: int, code: int) -> None:
    marker = tmp_path / "paper/_divmon/snapshots/00000001.json"

    def end(process: int) -> None:
        while not marker.exists() and Path(f"/proc/{process}").exists():
            time.sleep(0.01)
        os.kill(process, number)

    ended = forks.run(["-m", "divmon", *words(made, tmp_path, "--models", MODELS)], meanwhile=end)
    assert ended.returncode == code, ended.stderr[-3000:]
    before = {name: file for name, file in files(tmp_path / "paper").items() if name.endswith(".json")}
    assert {"00000000.json", "00000001.json"} <= before.keys() and len(before) < 5, "ended on the way"
    assert replay(made, tmp_path, "--models", MODELS) == 0
    assert files(tmp_path / "paper").items() >= before.items()
    assert read_run(tmp_path / "paper").steps == [0, 1, 2, 4, 7]
