from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from divmon import DiversityCallback
from divmon.options import Options, option_types
from divmon.training.config import DiversityConfig, OptionsDict, from_text, given_options
from divmon.training.schedule import Schedule


def test_the_defaults_are_the_papers_protocol() -> None:
    options = Options()
    assert (options.num_samples, options.reference_samples) == (16, 64)
    assert (options.temperature, options.top_p, options.num_prompts) == (0.6, 0.95, 64)
    assert Options(num_samples=4).reference_samples == 16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_samples": 1}, "at least 2"),
        ({"num_samples": "16"}, "whole number"),
        ({"reference_samples": 8}, "at least num_samples"),
        ({"top_p": 1.5}, "top_p"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": 1e-30}, "0.001 and above"),
        ({"chat": "perhaps"}, "chat: expected 'auto'"),
        ({"think": "maybe"}, "think: expected one of auto, on, off"),
        ({"on_error": "ignore"}, "on_error: expected one of warn, raise"),
        ({"every": -5}, "every: expected a number of steps"),
        ({"geometric": 1.0}, "ratio above 1"),
        ({"geometric": float("inf")}, "ratio above 1"),
        ({"at": [-1]}, "at: expected steps"),
        ({"chat_template_kwargs": "[1]"}, "JSON object"),
    ],
)
def test_a_wrong_option_says_what_was_expected(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**options)


def test_a_name_that_is_no_option_gets_the_closest() -> None:
    with pytest.raises(TypeError, match="no option named 'num_sample'; did you mean 'num_samples'"):
        DiversityConfig(num_sample=3)


def test_the_parser_fields_do_not_clash_with_training_arguments(tmp_path: Path) -> None:
    from transformers import HfArgumentParser
    from trl import SFTConfig, TrlParser

    line = [
        "--output_dir",
        str(tmp_path),
        "--divmon_every",
        "7",
        "--divmon_metrics",
        "ead,sbert",
        "--divmon_at",
        "1",
        "3",
    ]
    line += ["--seed", "5", "--divmon_chat_template_kwargs", '{"enable_thinking": false}', "--divmon_at_end", "false"]
    line += ["--use_cpu", "--bf16", "false"]
    for parser in (HfArgumentParser((SFTConfig, DiversityConfig)), TrlParser((SFTConfig, DiversityConfig))):
        parse = getattr(parser, "parse_args_and_config", parser.parse_args_into_dataclasses)
        args, config = parse(line)
        assert args.seed == 5
        options = config.options
        assert (options.every, options.metrics, options.at, options.seed) == (7, "ead,sbert", [1, 3], 0)
        assert options.chat_template_kwargs == {"enable_thinking": False}
        assert options.at_end is False
        assert options.num_prompts == 64


def test_options_from_yaml_with_and_without_the_prefix(tmp_path: Path) -> None:
    file = tmp_path / "divmon.yaml"
    file.write_text("probes: gsm8k\ndivmon_every: 25\nat: [1, 2]\n")
    options = DiversityConfig.from_yaml(file).options
    assert (options.probes, options.every, options.at) == ("gsm8k", 25, [1, 2])
    file.write_text("- 1\n")
    with pytest.raises(ValueError, match="key: value"):
        DiversityConfig.from_yaml(file)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("evry: 25", "divmon.yaml:2: evry: no option named 'evry'; did you mean 'every'?"),
        ("divmon_timeout: soon", "divmon.yaml:2: divmon_timeout: expected a number, got 'soon'"),
        ("at_start: perhaps", "divmon.yaml:2: at_start: expected true or false, got 'perhaps'"),
        ("top_p: 3", "divmon.yaml:2: top_p: expected a number above 0"),
        ("seed: 4", "divmon.yaml:2: seed: this key is given twice"),
        ("reference_samples: 2", "divmon.yaml: reference_samples: expected at least num_samples (16), got 2"),
        ("at: [", "divmon.yaml: not valid YAML"),
    ],
)
def test_a_wrong_file_is_named_with_line_and_key(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "divmon.yaml"
    file.write_text(f"seed: 3\n{line}\n")
    with pytest.raises(ValueError, match=re.escape(said)):
        DiversityConfig.from_yaml(file)


def test_text_of_a_file_is_converted_where_the_option_takes_none(tmp_path: Path) -> None:
    file = tmp_path / "divmon.yaml"
    file.write_text(
        'timeout: "10"\ntemperature: 1e-1\nevery: none\nat: 1, 3\nat_end: "no"\nstage: "10"\nmax_memory_gb: "null"\n'
    )
    options = DiversityConfig.from_yaml(file).options
    assert (options.timeout, options.temperature, options.every, options.at) == (10, 0.1, None, [1, 3])
    assert (options.at_end, options.stage, options.max_memory_gb) == (False, "10", None)
    assert from_text("at", "5") == [5] and from_text("at", "[1, 2]") == [1, 2] and from_text("chat", "on") == "on"
    assert from_text("num_prompts", "2.5") == "2.5", "what does not come to the type stays text, and is refused"


def test_schedule() -> None:
    assert Schedule(every=10, at_start=True, at_end=True).planned(25) == [0, 10, 20, 25]
    assert Schedule(every=None, geometric=2, at_start=False, at_end=False).planned(20) == [1, 2, 4, 8, 16]
    assert Schedule(every=None, at=(3, 7), at_start=False, at_end=True).planned(9) == [3, 7, 9]
    assert not Schedule(every=5).due(0)
    assert Schedule(every=None, geometric=1.5).planned(8) == [0, 1, 2, 3, 5, 8]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"at_start": "no"}, "at_start: expected true or false, got 'no'"),
        ({"timeout": "10"}, "timeout: expected a number, got '10'"),
        ({"metrics": 3}, "metrics: expected text or a list, got 3"),
        ({"at": "5"}, "at: expected a list of (a whole number) or None, got '5'"),
        ({"at": [1, "2"]}, "at: expected a list of (a whole number) or None"),
        ({"num_prompts": True}, "num_prompts: expected a whole number"),
        ({"every": 2.5}, "every: expected a whole number or None, got 2.5"),
        ({"temperature": None}, "temperature: expected a number, got None"),
        ({"progress": 1}, "progress: expected true or false, got 1"),
    ],
)
def test_every_option_has_a_type(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        DiversityCallback(**given)


def test_the_keywords_that_editors_know_are_the_options() -> None:
    wider = {"output_dir", "at", "metrics"}  # paths, tuples
    hints = typing.get_type_hints(OptionsDict)
    assert list(hints) == [name for name in option_types() if name != "probes"]
    assert {name for name, hint in hints.items() if hint != option_types()[name]} == wider


def test_numbers_of_numpy_and_paths_are_taken(tmp_path: Path) -> None:
    options = Options(every=np.int64(5), temperature=np.float32(1), timeout=10, output_dir=tmp_path, at=(1, 2))
    assert options.every == 5 and options.output_dir == str(tmp_path) and options.at == [1, 2]


def test_what_nobody_gave_is_derived_from_what_holds_in_the_end() -> None:
    merged = lambda config, **named: given_options(config, named).reference_samples  # noqa: E731
    assert merged(DiversityConfig(num_samples=16), num_samples=8) == 32
    assert merged(DiversityConfig(num_samples=8)) == 32
    assert merged(DiversityConfig(num_samples=16, reference_samples=48), num_samples=8) == 48
    assert merged(DiversityConfig(num_samples=16), num_samples=8, reference_samples=10) == 10
    changed = DiversityConfig()
    changed.divmon_num_samples = 4
    assert merged(changed) == 16


def test_a_cadence_asked_for_by_name_is_kept_and_the_default_thinned() -> None:
    from transformers import HfArgumentParser

    def budget(config: Any = None, **named: Any) -> float | None:
        return given_options(config, named).max_overhead

    def parsed(*line: str) -> Any:
        return HfArgumentParser(DiversityConfig).parse_args_into_dataclasses(list(line))[0]

    assert budget() == budget(DiversityConfig()) == budget(parsed()) == 0.05
    assert budget(every=100) is budget(DiversityConfig(every=100)) is budget(parsed("--divmon_every", "100")) is None
    assert budget(DiversityConfig(), every=10) is budget(parsed(), every=10) is None
    assert budget(every=10, max_overhead=0.05) == budget(DiversityConfig(every=10), max_overhead=0.05) == 0.05
    assert budget(max_overhead=None) is None
    assert Options().record()["every"] == 100 and type(Options().record()["max_overhead"]) is float


def test_a_run_of_any_length_is_measured_in_its_middle_where_nobody_asked_for_steps() -> None:
    assert Schedule.of(Options(), 60).planned(60) == [0, 30, 60]
    assert Schedule.of(Options(), 200).planned(200) == [0, 100, 200]
    assert Schedule.of(Options(), 1000).listed(500) and not Schedule.of(Options(), 1000).listed(400)
    assert Schedule.of(Options(), 1).planned(1) == [0, 1]
    assert (
        Schedule.of(Options(every=100), 60).planned(60) == Schedule.of(Options(every=None), 60).planned(60) == [0, 60]
    )
    assert Schedule.of(Options(at=[7]), 60).planned(60) == [0, 7, 60]


def test_a_wrong_probe_is_an_error_when_the_callback_is_built(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gsm9k"):
        DiversityCallback("gsm9k")
    with pytest.raises(ValueError, match=r"there is no file 'no\.jsonl'"):
        DiversityCallback("no.jsonl")
