"""`divmon attach`: programs run as Python runs them, and their trainers are watched and train the same."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import transformers
from support import runs, tiny
from support.attached import place as place
from support.attached import run

from divmon import DiversityCallback, cli
from divmon.cli.attach import attached
from divmon.storage.reader import read_run
from divmon.training.config import DiversityConfig

CONFIG = {"probes": runs.PROBES, **runs.CHEAP, "progress": False, "on_error": "raise"}


ATTACH = [sys.executable, "-m", "divmon", "attach"]


PROGRAM = """
import sys
heavy = [name for name in ("torch", "transformers", "datasets", "huggingface_hub") if name in sys.modules]
print(__name__, sys.argv[1:], sys.path[0], __file__, sys.modules["__main__"].__dict__ is globals(), heavy)
if "raise" in sys.argv:
    raise KeyError("of the program")
sys.exit({"none": None, "text": "a last word"}.get(sys.argv[1], 7))
"""


@pytest.mark.parametrize(
    ("form", "arguments"),
    [
        (["sub/program.py"], ["none"]),
        (["sub/program.py"], ["raise"]),
        (["sub/program.py"], ["7", "--", "--x"]),
        (["-m", "package.program"], ["7", "--", "--x"]),
        (["-m", "package.program"], ["raise"]),
        (["sub"], ["text"]),
        (["a-program"], ["7"]),
        (["a-program"], ["none"]),
    ],
)
def test_a_program_runs_as_python_runs_it(tmp_path: Path, form: list[str], arguments: list[str]) -> None:
    for file in ("sub/program.py", "sub/__main__.py", "package/program.py", "bin/a-program"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(f"#!{sys.executable}\n{PROGRAM}")
    (tmp_path / "bin/a-program").chmod(0o755)
    path = {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    python = [] if form == ["a-program"] else [sys.executable]
    direct = run([*python, *form, *arguments], tmp_path, **path)
    through = run([*ATTACH, "--", *form, *arguments], tmp_path, **path)
    assert through.returncode == direct.returncode
    assert through.stdout.splitlines()[0] == direct.stdout.strip()
    assert through.stderr.splitlines()[-1:] == direct.stderr.splitlines()[-1:]
    nothing = "divmon attach: no transformers Trainer trained in this process"
    assert (nothing in through.stdout) == (direct.returncode == 0), "said only where the program ended well"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["--divmon_every", "-1", "--", "program.py"], "'--divmon_every': expected a number of steps of at least 1"),
        (["--divmon_metrics", "vendy", "--", "program.py"], "no metric named 'vendy' (did you mean 'vendi'?)"),
        (["--probes", "gsm9k", "--", "program.py"], "no task named 'gsm9k'; there are"),
        (["--probes", "gsm8k@rows.jsonl", "--", "program.py"], "there is no file 'rows.jsonl'"),
        (["--config", "no.yaml", "--", "program.py"], "no.yaml"),
        (
            ["--config", "wrong.yaml", "--", "program.py"],
            "wrong.yaml:1: evry: no option named 'evry'; did you mean 'every'?",
        ),
        (["--config", "list.yaml", "--", "program.py"], "list.yaml: expected 'key: value' lines"),
        (["--divmon_evry", "3", "--", "program.py"], "no such option '--divmon_evry'; did you mean '--divmon_every'?"),
        (["program.py"], "got unexpected extra argument (program.py)"),
        (["--divmon_every", "3"], "expected the program after --"),
        (["--", "-m"], "expected the program after --"),
        (["--", "python", "program.py"], "leave 'python' out"),
        (["--", "trl", "sft"], "trains in processes of its own, which attach does not reach"),
        (["--", "ls"], "is not a Python program"),
        (["--", "no-such-program"], "there is no file and no program 'no-such-program'"),
    ],
)
def test_what_is_wrong_is_said_before_the_program_starts(
    tmp_path: Path,
    line: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "program.py").write_text("open('started', 'w')")
    (tmp_path / "wrong.yaml").write_text("evry: 3\n")
    (tmp_path / "list.yaml").write_text("- every\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["attach", *line]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "Traceback" not in said
    assert not (tmp_path / "started").exists()


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    from divmon.cli.attach import Flags, main

    (tmp_path / "divmon.yaml").write_text("divmon_every: 7\nnum_samples: 4\nat: [1]\nchat: false\nat_end: false\n")
    line = ["--divmon_num_samples", "8", "--divmon_at", "2", "3", "--divmon_chat", "on", "--divmon_at_end", "yes"]
    with main.make_context("divmon attach", ["--config", str(tmp_path / "divmon.yaml"), *line]) as context:
        options = Flags.of(context.params).resolved().options
    assert (options.every, options.num_samples, options.reference_samples) == (7, 8, 32)
    assert (options.at, options.chat, options.at_end) == ([2, 3], True, True)


def test_a_trainer_is_watched_and_nothing_is_left_patched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = transformers.Trainer.train
    with attached(DiversityConfig(**CONFIG)) as trained:
        trainer = runs.sft(tmp_path)
        trainer.train()
        assert read_run(tmp_path).steps == [0, 10, 20, 30]
        trainer.args.max_steps = 40
        trainer.train()
        assert read_run(tmp_path).steps == [0, 10, 20, 30, 40], "a trainer that trains again has one callback still"
    assert trained == ["SFTTrainer", "SFTTrainer"]
    assert transformers.Trainer.train is before
    runs.plain_trainer(tmp_path / "after", max_steps=1).train()
    assert not (tmp_path / "after/_divmon").exists()
    assert capsys.readouterr().out.count("SFTTrainer is watched") == 1


def test_a_module_not_imported_yet_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "waited_for.py").write_text("class Trainer:\n    def train(self):\n        return 'trained'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("divmon.cli.attach.TRAINER", "waited_for")
    before = list(sys.meta_path)
    with attached(DiversityConfig(**CONFIG)):
        assert "waited_for" not in sys.modules
        module = importlib.import_module("waited_for")
        assert module.Trainer.train.__wrapped__
    assert not hasattr(module.Trainer.train, "__wrapped__")
    assert sys.meta_path == before
    assert module.__spec__.loader.get_source("waited_for"), "its loader is the one it would have had"


def test_the_patch_goes_with_an_exception(tmp_path: Path) -> None:
    before = transformers.Trainer.train
    with pytest.raises(ZeroDivisionError), attached(DiversityConfig(**CONFIG)):
        raise ZeroDivisionError
    assert transformers.Trainer.train is before


@pytest.mark.parametrize("late", [False, True])
def test_a_callback_that_is_there_already_stays_the_only_one(
    tmp_path: Path, late: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    own = DiversityCallback(**{**CONFIG, "every": 15})
    with attached(DiversityConfig(**CONFIG)):
        trainer = runs.plain_trainer(tmp_path, [] if late else [own])
        if late:
            trainer.add_callback(own)
        trainer.train()
    assert read_run(tmp_path).steps == [0, 15, 30]
    assert "Trainer brings a DiversityCallback of its own; nothing is attached" in capsys.readouterr().out


def test_a_trainer_inside_a_trainer_is_watched_for_itself(tmp_path: Path) -> None:
    class Outer(transformers.Trainer):
        def train(self, *args: Any, **kwargs: Any) -> Any:
            self.inner = runs.plain_trainer(tmp_path / "inner", max_steps=10)
            self.never_trained = runs.plain_trainer(tmp_path / "never", max_steps=10)
            self.inner.train()
            return super().train(*args, **kwargs)

    plain = runs.plain_trainer(tmp_path / "outer", max_steps=20)
    with attached(DiversityConfig(**CONFIG)) as trained:
        outer = Outer(plain.model, plain.args, plain.data_collator, plain.train_dataset)
        outer.processing_class = plain.processing_class
        outer.train()
    assert trained == ["Trainer", "Outer"]
    assert read_run(tmp_path / "inner").steps == [0, 10]
    assert read_run(tmp_path / "outer").steps == [0, 10, 20]
    assert not (tmp_path / "never").exists() or not (tmp_path / "never/_divmon").exists()


def test_a_reward_trainer_trains_as_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    def train(folder: Path) -> Any:
        transformers.set_seed(0)
        config = transformers.LlamaConfig(**{**tiny.COMMON, "vocab_size": 400, "num_labels": 1})
        rows = [{"chosen": text, "rejected": text[:-4]} for text in runs.TEXTS]
        settings = {"max_steps": 4, "logging_steps": 2, "report_to": "none", "save_strategy": "no", "use_cpu": True}
        trainer = RewardTrainer(
            transformers.LlamaForSequenceClassification(config),
            args=RewardConfig(str(folder), bf16=False, disable_tqdm=True, **settings),
            train_dataset=Dataset.from_list(rows),
            processing_class=tiny.tokenizer(runs.TEXTS),
        )
        trainer.train()
        return trainer

    without = train(tmp_path / "without")
    with attached(DiversityConfig(**CONFIG)):
        through = train(tmp_path / "with")
    assert runs.log_rows(through) == runs.log_rows(without)
    assert not (tmp_path / "with/_divmon").exists()
    said = "RewardTrainer trains a LlamaForSequenceClassification, which completes no text; nothing is attached"
    assert capsys.readouterr().out.count(said) == 1
