"""TensorBoard after a resume: what the killed training had written after its checkpoint is no longer shown twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def hide_superseded(callbacks: Sequence[Any], step: int) -> None:
    """Tells readers of the host's event files that points after this step are written anew, as they now are.

    Nothing where the host has no TensorBoard writer, or one of its own make.
    """
    from tensorboard.compat.proto.event_pb2 import Event, SessionLog
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations import TensorBoardCallback

    for host in callbacks:
        writer = host.tb_writer if isinstance(host, TensorBoardCallback) else None
        if isinstance(writer, SummaryWriter) and writer.file_writer is not None:
            start = SessionLog(status=SessionLog.START)
            writer.file_writer.add_event(Event(step=step + 1, session_log=start))
