"""A byte-level BPE: trained on a sample of the corpus, and fast at turning text into ids.

Text is split by the pattern of Qwen2 (source: tokenizer.json of Qwen/Qwen2-0.5B, June 2024) without its NFC
normalization, so that decoding gives back every byte. The one special token is only ever set by this program:
where a corpus spells it out, it is encoded as ordinary text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from engine import atomic
from engine.errors import CorpusError

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0
MIN_VOCAB_SIZE = 257
"""The bytes and the special token."""
_SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_MIN_FREQUENCY = 2


def train(samples: Iterator[Sequence[str]], vocab_size: int, path: Path) -> None:
    """Train on batches of text and write tokenizer.json; the same text in the same order gives the same file.

    The vocabulary is smaller than `vocab_size` where no pair is left that occurs twice.
    Raises: CorpusError where `vocab_size` does not even hold the bytes.
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise CorpusError(
            f"model.vocab_size = {vocab_size} is too small for bytes.", f"Set it to {MIN_VOCAB_SIZE} or more."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=_MIN_FREQUENCY,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(samples, trainer)
    assert tokenizer.token_to_id(END_OF_TEXT) == END_OF_TEXT_ID
    atomic.write_text(path, tokenizer.to_str(pretty=True))


class Encoder:
    """Text to ids by a tokenizer.json."""

    def __init__(self, path: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(path))
        self._tokenizer.encode_special_tokens = True

    @property
    def vocab_size(self) -> int:
        """How many ids there are, the special one included."""
        return int(self._tokenizer.get_vocab_size())

    def encode(self, texts: list[str]) -> list[npt.NDArray[np.uint32]]:
        """The ids of each text, on all cores; the caller bounds the size of the batch."""
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.uint32) for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids; the special token as it is spelled."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))
