"""Rows and files of prompts for tests."""

from __future__ import annotations

from typing import Any

from divmon.prompts.probes import resolve
from divmon.types import Probe


def only(spec: Any, **options: Any) -> Probe:
    (probe,) = resolve(spec, **options)
    return probe


def contents(probe: Probe) -> list[Any]:
    return [prompt.content for prompt in probe.prompts]
