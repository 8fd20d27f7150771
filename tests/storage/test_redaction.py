"""Secrets are planted wherever a user may put one; none of them is in the run directory, the log or the console."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import pytest
from support import runs, tiny

from divmon import DiversityMonitor
from divmon.options import Options
from divmon.storage.redaction import redacted, without_secrets

SECRETS = [f"hunter{i}x" for i in range(6)]


def everything(folder: Path) -> str:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return "".join(
        (gzip.decompress(f.read_bytes()) if f.suffix == ".gz" else f.read_bytes()).decode("latin-1") for f in files
    )


def test_no_planted_secret_is_stored_logged_or_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b, c, d, e, f = SECRETS

    def failing(lengths_PK: object) -> object:
        raise RuntimeError(f"no answer from https://me:{a}@host/v1?api_key={b}, sent Authorization: Bearer {c}{c}")

    monitor = DiversityMonitor(
        runs.PROBES,
        output_dir=str(tmp_path / "run"),
        **{**runs.CHEAP, "metrics": ["ead", failing], "progress": False},
        chat_template_kwargs={"user": d, "deep": [{"api_key": e}], "enable_thinking": False},
    )
    with caplog.at_level(logging.DEBUG, logger="divmon"):
        monitor.measure(runs.model(), tiny.tokenizer(runs.TEXTS), 0, endpoint=f"https://x:{f}@host", api_key=f)
        monitor.store.append("failures", {"step": 0, "reason": f"https://x:{f}@host is away", "what": "x"})
        logging.getLogger("divmon").warning("at %s", f"https://x:{f}@host")
    said = caplog.text + "".join(capsys.readouterr())
    stored = everything(tmp_path)
    assert "https://***@host/v1?api_key=***" in stored and "https://***@host" in said
    assert [secret for secret in SECRETS if secret in stored + said] == []
    options = monitor.store.manifest["options"]["chat_template_kwargs"]
    assert options["enable_thinking"] is False and options["user"].startswith("text of 8 characters, sha256 ")


def test_what_is_wrong_with_an_option_does_not_show_its_secret() -> None:
    for given in ('{"key": "hunter2"', ["hunter2"]):
        with pytest.raises(ValueError, match="chat_template_kwargs: expected") as error:
            Options(chat_template_kwargs=given)  # type: ignore[arg-type]
        assert "hunter2" not in str(error.value)


def test_texts_without_secrets_stay_as_they_are() -> None:
    for text in ("see https://host/a?page=2#b", "a@b.c", "basic arithmetic", "the token: x", "http://host:8000/v1"):
        assert redacted(text) == text
    plain = {"tokens": 3, "token": 5, "eos_token": "</s>", "tokenizer": "gpt2", "max_new_tokens": "8", "key": "q"}
    assert without_secrets(plain) == plain
    assert without_secrets({"hf_token": "x", "list": [{"password": "y"}]}) == {
        "hf_token": "***",
        "list": [{"password": "***"}],
    }
