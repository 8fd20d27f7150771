from __future__ import annotations

from pathlib import Path

import pytest

from divmon.options import Options
from divmon.training.config import DiversityConfig
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
    file.write_text("evry: 25\n")
    with pytest.raises(TypeError, match=r"divmon\.yaml: no option named 'evry'; did you mean 'every'"):
        DiversityConfig.from_yaml(file)
    file.write_text("- 1\n")
    with pytest.raises(ValueError, match="name: value"):
        DiversityConfig.from_yaml(file)


def test_schedule() -> None:
    assert Schedule(every=10, at_start=True, at_end=True).planned(25) == [0, 10, 20, 25]
    assert Schedule(every=None, geometric=2, at_start=False, at_end=False).planned(20) == [1, 2, 4, 8, 16]
    assert Schedule(every=None, at=(3, 7), at_start=False, at_end=True).planned(9) == [3, 7, 9]
    assert not Schedule(every=5).due(0)
    assert Schedule(every=None, geometric=1.5).planned(8) == [0, 1, 2, 3, 5, 8]
