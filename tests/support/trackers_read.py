"""Local W&B, MLflow and trackio: where they write, and their rows as their own readers read them."""

from __future__ import annotations

import json
import os
import struct
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import DecodeError

os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="trackio")  # read once, when trackio is imported


def local_trackers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Point W&B and MLflow at `folder`, without network; gives MLflow's uri. trackio takes a project of your own."""
    import mlflow
    import wandb

    uri = f"file:{folder / 'mlruns'}"
    named = {
        "WANDB_MODE": "offline",
        "WANDB_DIR": str(folder),
        "WANDB_SILENT": "true",
        "MLFLOW_ALLOW_FILE_STORE": "true",
    }
    for name, value in named.items():
        monkeypatch.setenv(name, value)
    folder.mkdir(parents=True, exist_ok=True)
    mlflow.set_tracking_uri(uri)
    wandb.teardown()  # it reads its environment once
    return uri


def wandb_rows(folder: Path) -> list[dict[str, Any]]:
    """History rows of the one offline run under `folder`. Its file is a LevelDB log of W&B's own protobuf records."""
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    for _ in range(100):  # W&B's own process may still be writing after `finish`, half a record among others
        try:
            records = list(_wandb_records(file))
        except DecodeError:
            records = []
        if any(record.WhichOneof("record_type") == "exit" for record in records):
            break
        time.sleep(0.1)
    histories = (record.history.item for record in records if record.WhichOneof("record_type") == "history")
    return [{i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items} for items in histories]


def _wandb_records(file: Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    return map(wandb_internal_pb2.Record.FromString, _leveldb_records(file.read_bytes()))


def _leveldb_records(data: bytes) -> Iterator[bytes]:
    """Blocks of 32 KiB after a header of 7 bytes; a chunk is crc (4), length (2), kind (1: whole, 4: last of many)."""
    at, record = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield record
            record = b""


def mlflow_metrics(uri: str) -> dict[str, list[tuple[int, float]]]:
    """(step, value) of each metric of the one run in the store, by step: the store promises no order."""
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    names = run.data.metrics
    return {name: sorted((m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)) for name in names}


def trackio_rows(project: str) -> list[dict[str, Any]]:
    """Rows of the one run of the project."""
    from trackio.api import Api
    from trackio.sqlite_storage import SQLiteStorage

    (run,) = Api().runs(project)
    return SQLiteStorage.get_logs(project, run.name)
