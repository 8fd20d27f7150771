"""Run by test_many_ranks: forks as many gloo processes as told, prints the sockets that divmon opens in each."""

from __future__ import annotations

import os
import sys

import torch.distributed as dist

from divmon.training.distributed import Processes


def sockets() -> int:
    links = (f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd"))
    return sum(os.path.islink(link) and os.readlink(link).startswith("socket:") for link in links)


def one(rank: int, count: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=count)
    dist.barrier()
    before = sockets()
    processes = Processes(patience=60)
    assert processes.largest(rank) == count - 1
    assert len(processes.gather(rank)) == (count if rank == 0 else 1)
    opened = sockets() - before
    dist.barrier()
    os.write(1, f"{opened}\n".encode())  # whole lines, whoever else writes
    processes.part()
    dist.barrier()


if __name__ == "__main__":
    folder, count = sys.argv[1], int(sys.argv[2])
    children = []
    for rank in range(count):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                one(rank, count, folder)
                status = 0
            finally:
                os._exit(status)
        children.append(child)
    failed = [child for child in children if os.waitpid(child, 0)[1]]
    sys.exit(len(failed))
