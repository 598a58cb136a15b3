"""litgpt: its GPT in a Llama's shape under its own `pretrain.fit`, compiled, in bf16."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import lightning
import torch
from litgpt import GPT, Config
from litgpt.args import EvalArgs, TrainArgs
from litgpt.pretrain import fit
from torch import Tensor

from bench.peers import gate as the
from bench.peers.gate import Gate, batches


class _Batches:
    """A data loader that passes the gate with each batch; without one it has two batches."""

    def __init__(self, gate: Gate | None) -> None:
        self._gate = gate

    def __iter__(self) -> Iterator[Tensor]:
        source = batches()
        if self._gate is None:
            yield from (next(source), next(source))
            return
        while True:
            self._gate.step()
            yield next(source)


def run(gate: Gate) -> None:
    """Train until the gate says that it is over, in the steps of litgpt's `pretrain.main`."""
    fabric = lightning.Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    config = Config(
        name="bench",
        block_size=the.CONTEXT,
        padded_vocab_size=the.VOCAB_SIZE,
        vocab_size=the.VOCAB_SIZE,
        n_layer=the.N_LAYER,
        n_head=the.N_HEAD,
        n_embd=the.N_EMBD,
        intermediate_size=the.INTERMEDIATE,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
    )
    with fabric.init_module(empty_init=False):
        model = GPT(config)
    model.transformer.wte.weight = model.lm_head.weight
    gate.parameters = sum(parameter.numel() for parameter in model.parameters())
    model = fabric.setup(torch.compile(model))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=the.LEARNING_RATE, betas=the.BETAS, weight_decay=the.WEIGHT_DECAY, fused=True
    )
    optimizer = fabric.setup_optimizers(optimizer)
    state = {"model": model, "optimizer": optimizer, "iter_num": 0, "step_count": 0}
    train = TrainArgs(
        save_interval=None,
        log_interval=10,
        global_batch_size=the.BATCH,
        micro_batch_size=the.BATCH,
        max_tokens=10**12,
        max_norm=the.CLIP,
        lr_warmup_steps=100,
        tie_embeddings=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        fit(
            fabric=fabric,
            devices=1,
            state=state,
            train_dataloader=_Batches(gate),
            val_dataloader=_Batches(None),
            out_dir=Path(folder),
            tokenizer_dir=None,
            train=train,
            eval=EvalArgs(interval=10**9, initial_validation=False, final_validation=False, max_iters=2),
        )
