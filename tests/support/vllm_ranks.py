"""Run by torchrun for `test_trainer_vllm`: two processes draw uneven shares through one vLLM server, or one each."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import test_trainer_vllm as tests
import torch
from accelerate import PartialState
from trl.generation import vllm_client, vllm_generation

from divmon.prompts.rendering import Renderer
from divmon.sampling.engines.trainer_vllm import TrainerVLLM
from support import tiny, vllm_stand_in
from support.scripted import Reply, serving
from support.vllm_stand_in import Client, Engine, Generation, answer


def main(folder: Path) -> None:
    vllm_generation.SamplingParams = vllm_stand_in.SamplingParams
    vllm_client.is_vllm_available = lambda *a, **k: True
    state, renderer = PartialState(cpu=True), Renderer(tiny.tokenizer(), chat=False)
    assert state.num_processes == 2
    with contextlib.ExitStack() as stack:
        if state.is_main_process:
            scripts = {"/v1/completions": lambda body: Reply(answer(engine, body)), "/v1/models": ["m"], "/health": []}
            Generation.client = Client(base_url=stack.enter_context(serving(scripts)).url)
            engine = Engine(tiny.model("llama", vocab_size=400), renderer.tokenizer)
            Generation.client.engine = engine
        for mode in ("server", "colocate"):
            drawer = TrainerVLLM(tests.trainer(renderer, mode=mode), renderer)
            asked = tests.requests(renderer)
            for first in (3, 2):
                share = asked[:first] if state.process_index == 0 else asked[first:]
                drawing = tests.draw(drawer, share)
                torch.save(drawing, folder / f"{mode}-{first}-{3 - first}-{state.process_index}.pt")
        state.wait_for_everyone()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
