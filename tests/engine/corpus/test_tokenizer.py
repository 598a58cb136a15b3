from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.corpus import tokenizer
from engine.corpus.encode import pieces
from engine.errors import CorpusError
from tests.engine.corpus.conftest import prose


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    tokenizer.train(iter([[prose(200_000)]]), 600, path)
    return path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "  \r\n\t x  \n\n",
        "e\u0301 é ﬁ",
        "\0\x01\ufeff\ufffd",
        "😀👩‍👩‍👧 東京 Ə",
        " " * 5000,
        "<|endoftext|> a",
        prose(20_000, 9),
    ],
)
def test_decoding_gives_back_every_character(path: Path, text: str) -> None:
    encoder = tokenizer.Encoder(path)
    (ids,) = encoder.encode([text])
    assert encoder.decode(ids.tolist()) == text


def test_the_special_token_in_a_text_is_ordinary_text(path: Path) -> None:
    encoder = tokenizer.Encoder(path)
    (ids,) = encoder.encode([f"a{tokenizer.END_OF_TEXT}b"])
    assert tokenizer.END_OF_TEXT_ID not in ids
    assert encoder.decode([tokenizer.END_OF_TEXT_ID]) == tokenizer.END_OF_TEXT


def test_common_text_takes_fewer_tokens_than_bytes(path: Path) -> None:
    text = prose(50_000, 5)
    (ids,) = tokenizer.Encoder(path).encode([text])
    assert len(ids) < 0.5 * len(text.encode())


def test_cutting_at_a_line_changes_no_token(path: Path) -> None:
    text = prose(100_000, 7)
    encoder = tokenizer.Encoder(path)
    (whole,) = encoder.encode([text])
    parts = list(pieces(text))
    assert len(parts) > 10
    assert [int(i) for ids in encoder.encode(parts) for i in ids] == whole.tolist()


def test_training_is_the_same_on_any_number_of_threads(path: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from engine.corpus import tokenizer\n"
        "from tests.engine.corpus.conftest import prose\n"
        "tokenizer.train(iter([[prose(200_000)]]), 600, Path(sys.argv[1]))"
    )
    other = tmp_path / "other.json"
    environment = {**os.environ, "RAYON_NUM_THREADS": "1", "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, str(other)], check=True, env=environment, timeout=60)
    assert hashlib.sha256(other.read_bytes()).digest() == hashlib.sha256(path.read_bytes()).digest()


def test_a_vocabulary_smaller_than_the_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="vocab_size"):
        tokenizer.train(iter([["a"]]), 100, tmp_path / "tokenizer.json")
