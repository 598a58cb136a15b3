"""A model as other programs read it: a folder for transformers, or one .gguf file for llama.cpp and its kin.

The parameters bear transformers' names and orders already, so nothing is turned or renumbered here; a .gguf differs in
names and number format alone. Both carry the tokenizer: a byte-level BPE that splits text by Qwen2's pattern, which
llama.cpp knows under the name "qwen2". Source: llama.cpp, docs/gguf.md and convert_hf_to_gguf.py; the gguf package.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from torch import Tensor

from engine import atomic
from engine.corpus.manifest import TOKENIZER_NAME, load_manifest
from engine.errors import CheckpointError, EngineError
from engine.runs.folder import RunFolder
from engine.shape import ModelShape
from engine.train.checkpoint import MODEL_FILE
from engine.train.model import NORM_EPS, ROPE_THETA, Decoder
from engine.train.model_folder import config_of, load_from
from engine.train.tensorfile import write_tensors

Numbers = Literal["f32", "f16", "q8_0"]
GGUF_FILE = "model.gguf"
OnBytes = Callable[[int, int], None]
"""Told what is done and what there is in all, in bytes of the weights."""
_Q8_BLOCK = 32
"""Numbers that share a scale in Q8_0; a row that is no multiple of it stays in half precision."""


def export_transformers(run_dir: Path, folder: Path, source: str, on_bytes: OnBytes) -> str:
    """Write weights, configuration and tokenizer into `folder`; the answer is which source they came from.

    The weights are fp32, as they were trained. Raises: EngineError; OSError where the disk is full.
    """
    run, loaded = RunFolder(run_dir), load_from(run_dir, source)
    end_of_text_id = load_manifest(run.corpus_path).end_of_text_id
    tensors = list(loaded.model.named_parameters())
    total_bytes = sum(tensor.numel() * 4 for _, tensor in tensors)
    digest = write_tensors(
        folder / MODEL_FILE, tensors, {"run": run.id}, lambda done_bytes: on_bytes(done_bytes, total_bytes)
    )
    with (folder / MODEL_FILE).open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
            raise CheckpointError(
                "The exported weights read back are not what was written.",
                "The disk or the memory is faulty: export to another disk.",
            )
    tokenizer = (run_dir / TOKENIZER_NAME).read_text("utf-8")
    spelled = _spelling(tokenizer, end_of_text_id)
    shape = loaded.model.shape
    for name, facts in (
        ("config.json", {**config_of(shape, end_of_text_id), "pad_token_id": end_of_text_id}),
        ("generation_config.json", _generation_of(end_of_text_id)),
        (
            "tokenizer_config.json",
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "bos_token": spelled,
                "eos_token": spelled,
                "pad_token": spelled,
                "model_max_length": shape.context,
                "clean_up_tokenization_spaces": False,
            },
        ),
    ):
        atomic.write_bytes(folder / name, msgspec.json.format(msgspec.json.encode(facts), indent=2))
    atomic.write_text(folder / TOKENIZER_NAME, tokenizer)
    return loaded.source


def export_gguf(run_dir: Path, folder: Path, source: str, numbers: Numbers, on_bytes: OnBytes) -> str:
    """Write `model.gguf` into `folder`; the answer is which source it came from.

    `numbers` is the format of the matrices; norms are always fp32.
    Raises: EngineError, where the gguf package is missing too; OSError where the disk is full.
    """
    try:
        import gguf
    except ImportError as error:
        raise EngineError(
            "The gguf package is not installed.", "Install it: pip install 'llm-tui[export]'"
        ) from error
    run, loaded = RunFolder(run_dir), load_from(run_dir, source)
    model, kinds = loaded.model, gguf.GGMLQuantizationType
    named = [(_gguf_name(name), tensor.detach()) for name, tensor in model.named_parameters()]
    writer = gguf.GGUFWriter(folder / GGUF_FILE, "qwen3")
    try:
        _describe(writer, model.shape, run.id)
        writer.add_file_type(
            {
                "f32": gguf.LlamaFileType.ALL_F32,
                "f16": gguf.LlamaFileType.MOSTLY_F16,
                "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
            }[numbers]
        )
        _add_vocabulary(
            writer, gguf, run_dir / TOKENIZER_NAME, model, load_manifest(run.corpus_path).end_of_text_id
        )
        sizes = []
        for name, tensor in named:
            kind = kinds[_kind_of(tensor, numbers)]
            block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
            sizes.append(tensor.numel() // block * block_bytes)
            writer.add_tensor_info(name, tuple(tensor.shape), np.dtype(np.float32), sizes[-1], raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        done_bytes = 0
        for (_, tensor), num_bytes in zip(named, sizes, strict=True):
            kind = kinds[_kind_of(tensor, numbers)]
            writer.write_tensor_data(gguf.quants.quantize(tensor.float().contiguous().numpy(), kind))
            done_bytes += num_bytes
            on_bytes(done_bytes, sum(sizes))
    finally:
        writer.close()
    return loaded.source


def _generation_of(end_of_text_id: int) -> dict[str, object]:
    return {
        "bos_token_id": end_of_text_id,
        "eos_token_id": end_of_text_id,
        "pad_token_id": end_of_text_id,
        "do_sample": True,
        "temperature": 0.8,
        "top_p": 0.95,
    }


def _spelling(tokenizer: str, end_of_text_id: int) -> str:
    """How the special token is written."""
    return str(next(t["content"] for t in json.loads(tokenizer)["added_tokens"] if t["id"] == end_of_text_id))


def _kind_of(tensor: Tensor, numbers: Numbers) -> str:
    """The number format of one tensor, as the gguf package names it."""
    if tensor.ndim == 1 or numbers == "f32":
        return "F32"
    return "Q8_0" if numbers == "q8_0" and tensor.shape[-1] % _Q8_BLOCK == 0 else "F16"


_OUTER = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_INNER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _gguf_name(name: str) -> str:
    """A parameter's name in llama.cpp's table for qwen3."""
    if name in _OUTER:
        return _OUTER[name]
    block, _, part = name.removeprefix("model.layers.").partition(".")
    return f"blk.{block}.{_INNER[part.removesuffix('.weight')]}.weight"


def _describe(writer: Any, shape: ModelShape, run_id: str) -> None:
    writer.add_name(run_id)
    writer.add_description("Trained from scratch with llm-tui")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.n_embd)
    writer.add_block_count(shape.n_layer)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_kv_head)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_freq_base(ROPE_THETA)
    writer.add_layer_norm_rms_eps(NORM_EPS)


def _add_vocabulary(writer: Any, gguf: Any, path: Path, model: Decoder, end_of_text_id: int) -> None:
    """The tokens by id, those of the embedding's rows that no text uses named as unused, and the merges in order."""
    tokenizer = json.loads(path.read_text("utf-8"))
    by_id = {index: token for token, index in tokenizer["model"]["vocab"].items()}
    special = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    tokens, kinds = [], []
    for index in range(model.shape.vocab_size):
        if index in special:
            tokens.append(special[index])
            kinds.append(gguf.TokenType.CONTROL)
        elif index in by_id:
            tokens.append(by_id[index])
            kinds.append(gguf.TokenType.NORMAL)
        else:
            tokens.append(f"[unused{index}]")
            kinds.append(gguf.TokenType.UNUSED)
    merges = tokenizer["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(end_of_text_id)
    writer.add_eos_token_id(end_of_text_id)
    writer.add_pad_token_id(end_of_text_id)
    writer.add_add_bos_token(False)
