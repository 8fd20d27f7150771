"""Finds the files of a model repository: in a local folder, the hub's cache, or the hub."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

from divmon.lineages.published.catalog import MAIN


class CannotBeHad(Exception):
    """The files of a repository cannot be found; the message says why."""


class HubUnreachable(CannotBeHad):
    """The hub does not answer: there is no network, or it is down."""


WEIGHTS = ("*.safetensors", "*.json", "*.txt", "*.jinja", "*.model")  # Think-DPO also holds its weights as .bin
TOKENIZER = ("*token*", "*.jinja", "vocab*", "merges.txt", "*.model", "config.json")


class Hub:
    """Finds the files of a repository: in a local folder, the hub's cache, or the hub.

    Args:
        local: a folder with <org>/<name> for a repository's main, and <org>/<name>@<branch>; it is searched first.
    """

    def __init__(self, local: Path | None = None) -> None:
        self.local = local
        self.unreachable = ""
        """Why the hub cannot be reached, once that was found: from then on only its cache is used."""
        self._commits: dict[tuple[str, str], str] = {}
        self._own: set[Path] = set()

    def branches(self, repository: str) -> list[str]:
        """The branches of a repository, in the folder or on the hub. Raises HubUnreachable: the hub does not answer;
        CannotBeHad: there is no such repository, or it is gated."""
        local = self._local_branches(repository)
        if local:
            return local
        from huggingface_hub import HfApi

        try:
            refs = HfApi().list_repo_refs(repository).branches
        except Exception as error:
            raise self._because(repository, error) from error
        self._commits |= {(repository, ref.name): ref.target_commit for ref in refs}
        return [ref.name for ref in refs]

    def folder(self, repository: str, revision: str = MAIN, patterns: Sequence[str] = WEIGHTS) -> Path:
        """Folder with the files of a revision, downloaded if need be. Raises HubUnreachable, CannotBeHad: as for
        `branches`."""
        if self.local is not None:
            path = self._local_path(repository, revision)
            if path.is_dir():
                return path
            if self._local_branches(repository):
                raise CannotBeHad(f"there is no {path}")
        from huggingface_hub import snapshot_download

        commit, wanted = self._commits.get((repository, revision), revision), list(patterns)
        was_there = True
        try:
            path = Path(snapshot_download(repository, revision=commit, allow_patterns=wanted, local_files_only=True))
        except Exception as nothing_or_a_part:
            if self.unreachable:
                raise HubUnreachable(self.unreachable) from nothing_or_a_part
            was_there = False
        try:
            if not was_there:
                path = Path(snapshot_download(repository, revision=commit, allow_patterns=wanted))
            if patterns is WEIGHTS and not any(path.glob("*.safetensors")):
                path = Path(snapshot_download(repository, revision=commit, allow_patterns=[*wanted, "*.bin"]))
        except Exception as error:
            raise self._because(repository, error) from error
        if patterns is WEIGHTS and not was_there:
            self._own.add(path)
        return path

    def discard(self, path: Path) -> None:
        """Deletes from the cache what this object has downloaded, nothing else."""
        if path not in self._own:
            return
        from huggingface_hub import scan_cache_dir

        scan_cache_dir().delete_revisions(path.name).execute()
        self._own.remove(path)

    def _local_path(self, repository: str, revision: str) -> Path:
        assert self.local is not None
        return self.local / (repository if revision == MAIN else f"{repository}@{revision}")

    def _local_branches(self, repository: str) -> list[str]:
        if self.local is None:
            return []
        main, organisation = self.local / repository, (self.local / repository).parent
        others = (path.name.removeprefix(f"{main.name}@") for path in organisation.glob(f"{main.name}@*"))
        return sorted(others) + ([MAIN] if main.is_dir() else [])

    def _because(self, repository: str, error: BaseException) -> CannotBeHad:
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

        if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
            error = error.__cause__
        if isinstance(error, HFValidationError):
            return CannotBeHad(f"{repository!r} is no repository id; expected organisation/name")
        if isinstance(error, GatedRepoError):
            return CannotBeHad(f"{repository} is gated: ask for access on its page, then `hf auth login`")
        if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
            return CannotBeHad(f"the hub says of {repository}: {_first_line(error)}")
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return CannotBeHad(f"the disk is full ({error}); --discard deletes each download once it is measured")
        network = isinstance(error, ConnectionError | HfHubHTTPError) or type(error).__module__.startswith("http")
        if not network:
            return CannotBeHad(f"{repository}: {type(error).__name__}: {_first_line(error)}")
        self.unreachable = (
            f"the hub cannot be reached ({type(error).__name__}: {_first_line(error)}); give --local DIR with the"
            " repositories in it, or the same command again where there is network (HF_HUB_OFFLINE unset)"
        )
        return HubUnreachable(self.unreachable)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
