"""transformers: its Llama in a plain loop, and its Trainer with the Llama and with GPT-2, of the same shape."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from bench.peers import gate as the
from bench.peers.gate import Gate, batches


def llama() -> PreTrainedModel:
    """As ours, without QK-norm."""
    config = LlamaConfig(
        vocab_size=the.VOCAB_SIZE,
        hidden_size=the.N_EMBD,
        intermediate_size=the.INTERMEDIATE,
        num_hidden_layers=the.N_LAYER,
        num_attention_heads=the.N_HEAD,
        max_position_embeddings=the.CONTEXT,
        tie_word_embeddings=True,
        use_cache=False,
    )
    return LlamaForCausalLM(config)


def gpt2() -> PreTrainedModel:
    """GPT-2 without dropout, which the others have not either."""
    config = GPT2Config(
        vocab_size=the.VOCAB_SIZE,
        n_positions=the.CONTEXT,
        n_embd=the.N_EMBD,
        n_layer=the.N_LAYER,
        n_head=the.N_HEAD,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
    )
    return GPT2LMHeadModel(config)


def run_loop(gate: Gate) -> None:
    """A loop of one's own around the compiled Llama, in bf16, with fused AdamW."""
    model = llama().train()
    gate.parameters = model.num_parameters()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=the.LEARNING_RATE, betas=the.BETAS, weight_decay=the.WEIGHT_DECAY, fused=True
    )
    train = torch.compile(model)
    for batch in batches():
        gate.step()
        ids, targets = batch[:, :-1].contiguous(), batch[:, 1:].contiguous()
        with torch.autocast("cpu", torch.bfloat16):
            loss = train(input_ids=ids, labels=targets, shift_labels=targets).loss
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), the.CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


class _Rows(Dataset):
    """The pool of ids as single examples."""

    def __init__(self) -> None:
        source: Iterator[Tensor] = batches()
        self._rows = torch.cat([next(source) for _ in range(64)])[:, :-1]

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        row = self._rows[index % len(self._rows)]
        return {"input_ids": row, "labels": row}


class _AtGate(TrainerCallback):
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def on_step_begin(self, *_arguments: Any, **_named: Any) -> None:
        self._gate.step()


def run_trainer(gate: Gate, model: PreTrainedModel, *, is_bf16: bool, is_compiled: bool = False) -> None:
    """The Trainer with its own defaults, but for what is measured."""
    gate.parameters = model.num_parameters()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            bf16=is_bf16,
            torch_compile=is_compiled,
            per_device_train_batch_size=the.BATCH,
            learning_rate=the.LEARNING_RATE,
            adam_beta1=the.BETAS[0],
            adam_beta2=the.BETAS[1],
            weight_decay=the.WEIGHT_DECAY,
            max_grad_norm=the.CLIP,
            max_steps=100_000,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=_Rows(), callbacks=[_AtGate(gate)])
        trainer.train()
