"""The manifest of a run directory, what the run is: read, checked, and its probes and figures as they were."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from divmon.storage.files import ROLLOUTS
from divmon.storage.sealing import Changed, unseal
from divmon.types import Figure, Probe, Prompt

FORMAT = 1
"""Version of the run directory, raised whenever an older divmon could misread it."""


_KINDS = {
    **dict.fromkeys(("probes", "metrics", "planned", "failures", "resumed", "segments"), list),
    **dict.fromkeys(("options", "decoding", "verifiers", "encoders", "figures"), dict),
    "format": int,
}


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest as plain data, without the parts that are damaged. Raises ValueError: it is no manifest, or a newer
    divmon wrote it."""
    return checked_manifest(folder)[0]


class TooNew(ValueError):
    """A newer divmon wrote the run."""


def checked_manifest(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """The manifest, and what is wrong with it, a line each; parts that cannot be used are left out. Raises ValueError:
    without format or with other probes than divmon writes it is no manifest; or a newer divmon wrote it."""
    file, faults = folder / "manifest.json", []
    try:
        manifest, vouched = unseal(file.read_bytes())
    except Changed as changed:
        manifest, vouched = changed.value, False
        faults.append(f"{changed}; its options and prompts may not be those of the run")
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} is no manifest of a divmon run: {error or type(error).__name__}") from error
    version = manifest.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise TooNew(
            f"{file} has format {version}, written by divmon {manifest.get('divmon', '(unknown version)')};"
            f" this divmon reads up to format {FORMAT}: upgrade divmon"
        )
    if not (vouched and _is_as_written(manifest)):
        from divmon.storage.validation import wrong_manifest_keys  # pydantic, which a run with digests does not need

        for key, fault in wrong_manifest_keys(manifest, manifest.get("kind") != ROLLOUTS):
            if key in ("format", "probes"):
                raise ValueError(f"{file} is no manifest of a divmon run: {fault}")
            faults.append(f"{fault}; '{key}' is left out")
            manifest.pop(key, None)
        read_probes(manifest, file)
    return manifest, [f"{file.name}: {fault}" for fault in faults]


def _is_as_written(manifest: dict[str, Any]) -> bool:
    """Whether a look at a manifest with a digest finds what divmon writes: its digest speaks for the rest."""
    has_all = "format" in manifest and ("probes" in manifest or manifest.get("kind") == ROLLOUTS)
    return has_all and all(isinstance(manifest[key], kind) for key, kind in _KINDS.items() if key in manifest)


def read_probes(manifest: dict[str, Any], file: Path | str = "the manifest") -> tuple[Probe, ...]:
    """The probes of a manifest, equal to those the run was opened with. Raises ValueError: they are none."""

    def prompt(row: dict[str, Any]) -> Prompt:
        content = row["content"]
        return _of(Prompt, {**row, "content": content if isinstance(content, str) else tuple(content)})

    try:
        return tuple(
            _of(Probe, {**probe, "prompts": tuple(map(prompt, probe["prompts"])), "stop": tuple(probe["stop"])})
            for probe in manifest.get("probes", ())
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"the probes of {file} are damaged: {error}") from error


def _of(kind: Any, row: dict[str, Any]) -> Any:
    """A dataclass from a stored row; a later divmon may have added some fields."""
    known = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in row.items() if name in known})


def read_figures(manifest: dict[str, Any]) -> dict[str, Figure]:
    """What the figures of a run are, by name; none where an older divmon wrote it. A resumed run may have gone on with
    other metrics."""
    found = {}
    for segment in (manifest, *manifest.get("resumed", ())):
        for name, row in segment.get("figures", {}).items():
            found[name] = _of(Figure, {key: _tupled(value) for key, value in row.items()})
    return found


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def asked(manifest: dict[str, Any]) -> dict[str, list[tuple[Any, ...]]]:
    """What the probes of a manifest ask, by task: where it came from and what limits it has may change."""
    probes = manifest.get("probes", ())
    return {probe["name"]: [(p["id"], p["content"], p["gold"]) for p in probe["prompts"]] for probe in probes}
