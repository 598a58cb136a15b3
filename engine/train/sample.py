"""Text from a model, piece by piece: temperature, top-p, a seed, and never half a character.

The prompt's last token is chosen anew together with what follows it, since a byte-level tokenizer would hardly ever
have cut there: after "def " it has learnt " name", not " " and "name".
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch import Tensor

from engine.errors import CorpusError, EngineError
from engine.train.model import Decoder, KeyValueCache


class NoTextError(EngineError):
    """A model that has no next token to say: its weights have gone bad."""


class Vocabulary:
    """A byte-level tokenizer, and the bytes behind each of its ids.

    Raises: CorpusError where the file cannot be read.
    """

    def __init__(self, path: Path, end_of_text_id: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_str(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise CorpusError(f"{path} cannot be read: {error}", "Start a new run.") from error
        self._tokenizer.encode_special_tokens = True  # a prompt that spells one out is ordinary text
        self.end_of_text_id = end_of_text_id
        letters = _byte_letters()
        size = self._tokenizer.get_vocab_size(with_added_tokens=True)
        self.pieces: list[bytes] = [b""] * size
        """The bytes of every id; empty for special tokens."""
        for text, index in self._tokenizer.get_vocab(with_added_tokens=False).items():
            if index != end_of_text_id and all(letter in letters for letter in text):
                self.pieces[index] = bytes(letters[letter] for letter in text)

    def encode(self, text: str) -> list[int]:
        """The ids of a text; end-of-text alone for an empty one. A lone surrogate is read as U+FFFD."""
        # An argument whose bytes are not UTF-8 holds lone surrogates, which the tokenizer refuses.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids or [self.end_of_text_id]

    def ids_beginning_with(self, start: bytes) -> Tensor:
        """Every id whose bytes begin so: (n,) int64."""
        return torch.tensor([index for index, piece in enumerate(self.pieces) if piece.startswith(start)])


def _byte_letters() -> dict[str, int]:
    """The letter that a byte-level tokenizer writes for each byte. Source: openai/gpt-2, `bytes_to_unicode`."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(256 + index): byte for index, byte in enumerate(others)}


@torch.no_grad()
def generate(
    model: Decoder,
    vocabulary: Vocabulary,
    prompt: str,
    *,
    max_tokens: int,
    temperature: float = 0.8,
    top_p: float = 0.95,
    seed: int = 0,
) -> Iterator[str]:
    """Continue a prompt: pieces of text until end-of-text or `max_tokens`.

    Temperature 0 takes the likeliest token. Same seed, same text. Beyond the model's context the older half of what
    was read is forgotten. The model must be in evaluation mode. Raises: NoTextError where its logits are not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    window = _Window(model, vocabulary.encode(prompt))
    size = len(vocabulary.pieces)
    healed = vocabulary.pieces[window.ids[-1]] if len(window.ids) > 1 else b""
    if healed:
        window.ids.pop()
    for _ in range(max_tokens):
        logits = window.next_logits()[:size]  # (V,), without the ids that no text uses
        if not logits.isfinite().all():
            raise NoTextError("The model's logits are not finite.", "Let an older checkpoint write instead.")
        if healed:
            allowed = torch.full_like(logits, -torch.inf)
            allowed[vocabulary.ids_beginning_with(healed)] = 0.0
            logits = logits + allowed
        token = choose(logits, temperature, top_p, generator)
        if token == vocabulary.end_of_text_id:
            break
        window.ids.append(token)
        text = decoder.decode(vocabulary.pieces[token][len(healed) :])
        healed = b""
        if text:
            yield text
    rest = decoder.decode(b"", final=True)
    if rest:
        yield rest


def choose(logits: Tensor, temperature: float, top_p: float, generator: torch.Generator) -> int:
    """One id of (V,) logits: among the likeliest that together have `top_p` of the probability."""
    if temperature <= 0:
        return int(logits.argmax())
    probabilities, ids = torch.softmax(logits / temperature, dim=-1).sort(descending=True, stable=True)
    before = probabilities.cumsum(-1) - probabilities
    probabilities[before >= top_p] = 0.0
    probabilities[0] = probabilities[0].clamp(min=1e-9)
    return int(ids[torch.multinomial(probabilities, 1, generator=generator)])


class _Window:
    """The ids so far, and the caches of those that the model has read."""

    def __init__(self, model: Decoder, ids: list[int]) -> None:
        self.ids = ids
        self._model = model
        self._context = model.shape.context
        self._caches: list[KeyValueCache] = []
        self._num_read = 0

    def next_logits(self) -> Tensor:
        """Logits of the token after the last, (V,) fp32 on the CPU."""
        if not self._caches or self._cached >= self._context:
            return self._read_anew()
        return self._read(self.ids[self._num_read :])

    @property
    def _cached(self) -> int:
        keys = self._caches[0].keys
        return 0 if keys is None else keys.shape[2]

    def _read_anew(self) -> Tensor:
        keep = self._context if not self._caches else self._context // 2
        self._caches = [KeyValueCache() for _ in self._model.model.layers]
        return self._read(self.ids[-keep:])

    def _read(self, ids: list[int]) -> Tensor:
        device = self._model.head.device
        hidden = self._model(torch.tensor([ids], device=device), self._caches)  # (1, T, D)
        self._num_read = len(self.ids)
        logits: Tensor = hidden[0, -1].float() @ self._model.head.float().T  # (V,)
        return logits.float().cpu()
