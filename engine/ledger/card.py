"""The card that goes out with a model: what it is, how it was trained, and what that took."""

from __future__ import annotations

from pathlib import PurePath

from engine.errors import StoreError
from engine.ledger.cloud import course_quote_for, entry_flop
from engine.ledger.markdown import (
    UNKNOWN,
    count,
    escape,
    instant,
    kwh,
    money,
    number,
    pair,
    plain,
    significant,
    table,
    with_unit,
)
from engine.records import LedgerEntry
from engine.shape import ModelShape

_USE_TRANSFORMERS = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # where this file lies
model = AutoModelForCausalLM.from_pretrained(folder)
tokenizer = AutoTokenizer.from_pretrained(folder)
ids = tokenizer("def ", return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=100)[0]))
```"""
_USE_GGUF = """```
llama-cli -m model.gguf -p "def " -n 100 -no-cnv
```"""


def model_card(entry: LedgerEntry, shape: ModelShape, format_: str, numbers: str, source: str) -> str:
    """The README.md of an exported model, with the front matter that model hubs read.

    Of the corpus only names are told, no paths: where a text lies on a person's disk goes out with no model.
    """
    is_gguf = format_ == "gguf"
    kept_as = f"GGUF, matrices in {numbers}" if is_gguf else "safetensors, fp32"
    head = [
        "---",
        f"library_name: {'gguf' if is_gguf else 'transformers'}",
        "pipeline_tag: text-generation",
        "tags: [llm-tui, trained-from-scratch, qwen3]",
        "---",
        "",
        f"# {escape(entry.run_id)}",
        "",
        f"A language model of {number(entry.parameters / 1e6, 1)} million parameters, trained from scratch with",
        "llm-tui. It continues text; it was not taught to answer questions or to follow instructions.",
        "",
        _USE_GGUF if is_gguf else _USE_TRANSFORMERS,
    ]
    parts = (
        ("The model", _model(entry, shape, kept_as, source)),
        ("The training", _training(entry)),
        ("What it took", _cost(entry)),
    )
    for title, facts in parts:
        head += ["", f"## {title}", "", *table(("", ""), facts)]
    return "\n".join(
        [*head, "", "Unknown is a dash. `llm-tui ledger` and `TRAINING.md` have the whole record.", ""]
    )


def _model(entry: LedgerEntry, shape: ModelShape, kept_as: str, source: str) -> list[tuple[str, str]]:
    return [
        ("architecture", "Qwen3: RMSNorm, QK-norm, RoPE, SwiGLU, grouped-query attention"),
        (
            "size",
            f"{shape.n_layer} layers of {shape.n_embd}, {shape.n_head} heads, {shape.n_kv_head} of keys and values",
        ),
        ("context", f"{count(shape.context)} tokens"),
        (
            "vocabulary",
            f"{count(shape.vocab_size)}, byte-level BPE of its own corpus, text split as Qwen2 does",
        ),
        ("kept as", kept_as),
        ("weights of", "the finished run" if source == "model" else escape(source)),
        ("preset", escape(entry.preset)),
    ]


def _training(entry: LedgerEntry) -> list[tuple[str, str]]:
    total = f" of {count(entry.tokens_total)}" if entry.tokens_total else ""
    return [
        ("corpus", ", ".join(escape(name) for name in corpus_names(entry.corpus)) or UNKNOWN),
        ("tokens", f"{count(entry.tokens)}{total}"),
        ("training loss", with_unit(number(entry.loss, 4), "nats a token")),
        ("validation loss", with_unit(number(entry.val_loss, 4), "nats a token")),
        ("validation", with_unit(number(entry.val_bits_per_byte, 4), "bits a byte")),
        ("began", instant(entry.started_at)),
        ("state", escape(entry.state)),
        ("restarts", str(entry.restarts)),
        ("device", escape(entry.device)),
    ]


def _cost(entry: LedgerEntry) -> list[tuple[str, str]]:
    at_least = "at least " if entry.gap_s >= 1.0 else ""
    source = f" ({escape(entry.energy_source)})" if entry.energy_source else ""
    machine = with_unit(kwh(entry.machine_energy_j), "kWh")
    facts = [
        ("hours", number(entry.elapsed_s / 3600, 2)),
        ("GPU energy", with_unit(kwh(entry.gpu_energy_j), "kWh")),
        ("machine energy", machine if machine == UNKNOWN else f"{at_least}{machine}{source}"),
        ("price", f"{plain(entry.price_per_kwh)} {escape(entry.currency)} a kWh"),
        ("electricity", UNKNOWN if entry.cost is None else f"{at_least}{money(entry.cost, entry.currency)}"),
        ("GPU power", with_unit(pair(entry.gpu_watts_mean, entry.gpu_watts_max, 1), "W, mean / max")),
        (
            "GPU temperature",
            with_unit(pair(entry.gpu_celsius_mean, entry.gpu_celsius_max, 0), "°C, mean / max"),
        ),
        ("a cloud T4 instead", _cloud(entry)),
    ]
    if entry.grams_co2 is not None:
        facts.append(("CO2", f"{significant(entry.grams_co2 / 1000, 3)} kg"))
    return facts


def _cloud(entry: LedgerEntry) -> str:
    """The course's T4 for the same tokens."""
    try:
        quote = course_quote_for(entry_flop(entry)) if entry.tokens else None
    except StoreError:
        quote = None
    if quote is None or quote.hours is None or quote.usd is None:
        return UNKNOWN
    return f"{money(quote.usd, 'USD')} for {quote.hours:.4g} h at {quote.usd_per_hour:.2f} USD/h"


def corpus_names(corpus: str) -> list[str]:
    """The sources of a corpus as `LedgerEntry.corpus` lists them, each without the folders it lies in."""
    return [PurePath(part.strip()).name for part in corpus.split(",") if part.strip()]
