from __future__ import annotations

import os
import socket
import sys
import sysconfig
from pathlib import Path

import pytest

from engine.corpus.build import inspect
from engine.corpus.source import Listing, list_files, open_unchanged
from engine.errors import CorpusError
from tests.engine.corpus.conftest import corpus_settings, prose


def listed(workspace: Path, source: str | list[str]) -> Listing:
    return list_files(corpus_settings(source), workspace)


def names(workspace: Path, source: str | list[str]) -> list[str]:
    return [file.path.name for file in listed(workspace, source).files]


def refusal(workspace: Path, source: str | list[str], **other: object) -> CorpusError:
    with pytest.raises(CorpusError) as caught:
        inspect(corpus_settings(source, **other), workspace)
    assert caught.value.remedy
    return caught.value


def test_the_builtin_corpus_is_the_standard_library_and_nothing_else(workspace: Path) -> None:
    listing = listed(workspace, "builtin:python")
    root = Path(sysconfig.get_path("stdlib"))
    folders = {part for file in listing.files for part in file.path.relative_to(root).parts[:-1]}
    assert all(file.path.suffix == ".py" for file in listing.files)
    assert {"site-packages", "dist-packages", "__pycache__", "decimaltestdata"}.isdisjoint(folders)
    assert "asyncio" in folders
    assert listing == listed(workspace, "builtin:python")
    if (root / "test" / "test_os.py").exists():
        assert listing.total_bytes >= 12_000_000


def test_a_folder_gives_its_texts_in_order_and_passes_over_the_rest(workspace: Path) -> None:
    (workspace / "text" / "b").mkdir(parents=True)
    for name in ("z.txt", "a.MD", "b/m.jsonl", "b/x.py", ".hidden.txt", "c.bin"):
        (workspace / "text" / name).write_text("{}")
    (workspace / "text" / "empty.txt").touch()
    assert names(workspace, "text") == ["a.MD", "m.jsonl", "z.txt"]
    assert names(workspace, ["text/z.txt", "text"]) == ["z.txt", "a.MD", "m.jsonl"]


def test_home_and_absolute_paths(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home" / "a.txt").write_text("hello")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert names(workspace, "~/a.txt") == ["a.txt"]
    assert names(workspace, str(tmp_path / "home")) == ["a.txt"]


def test_what_the_program_wrote_into_the_workspace_is_no_corpus(workspace: Path) -> None:
    for name in ("notes.md", "TRAINING.md", "runs/r1/a.txt", "cache/a.txt", "text/TRAINING.md"):
        (workspace / name).parent.mkdir(parents=True, exist_ok=True)
        (workspace / name).write_text("hello")
    assert names(workspace, ".") == ["notes.md", "TRAINING.md"]
    assert [f.path.parent.name for f in listed(workspace, ".").files] == ["workspace", "text"]


@pytest.mark.timeout(20)
def test_loops_fifos_and_sockets_are_passed_over(workspace: Path) -> None:
    folder = workspace / "text"
    folder.mkdir()
    (folder / "a.txt").write_text("hello")
    (folder / "loop").symlink_to(folder)
    (folder / "self.txt").symlink_to("self.txt")
    (folder / "gone.txt").symlink_to("nowhere")
    (folder / "same.txt").symlink_to("a.txt")
    os.mkfifo(folder / "pipe.txt")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(folder)
        server.bind("socket.txt")
        os.chdir(here)
    (folder / "null.txt").symlink_to("/dev/zero")
    assert names(workspace, "text") == ["a.txt"]


def test_a_linked_file_is_read(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "blob").write_text("hello")
    (workspace / "text").mkdir()
    (workspace / "text" / "a.txt").symlink_to(tmp_path / "blob")
    assert names(workspace, "text") == ["a.txt"]


def test_refusals_name_the_file_and_the_remedy(workspace: Path) -> None:
    os.mkfifo(workspace / "pipe.txt")
    (workspace / "a.pdf").write_bytes(b"%PDF")
    (workspace / "empty.txt").touch()
    (workspace / "nothing").mkdir()
    for source, said in {
        "pipe.txt": "neither a file nor a folder",
        "a.pdf": "a.pdf",
        "empty.txt": "is empty",
        "nothing": "holds no text",
        "absent": "No such file",
        "builtin:perl": "builtin:perl",
        "": "empty",
        "~nobody-of-this-name/x": "home directory",
    }.items():
        assert said in refusal(workspace, source).title
    assert "builtin:python" in refusal(workspace, []).remedy


def test_binary_files_are_refused_by_their_start_middle_or_end(workspace: Path) -> None:
    text = prose(300_000).encode()
    for name, data in {
        "nul.txt": b"MZ\0\0" + text,
        "middle.txt": text[:150_000] + bytes(4096) + text[150_000:],
        "tail.txt": text + bytes(4096),
        "utf16.txt": prose(1000).encode("utf-16"),
        "noise.md": bytes(range(128, 256)) * 100,
        "nul.jsonl": b'{"text": "a"}\n' + bytes(100),
    }.items():
        (workspace / name).write_bytes(data)
        error = refusal(workspace, name)
        assert name in error.title
        assert "not text" in error.title
        assert "UTF-8" in error.remedy


def test_text_that_ends_inside_a_character_at_the_peeks_edge_is_text(workspace: Path) -> None:
    (workspace / "a.txt").write_text("東京" * 100_000, encoding="utf-8")
    assert inspect(corpus_settings("a.txt"), workspace).num_files == 1


def test_jsonl_without_the_field_names_the_fields_it_has(workspace: Path) -> None:
    (workspace / "a.jsonl").write_text('{"content": "hello", "id": 4}\n' * 20)
    error = refusal(workspace, "a.jsonl")
    assert "'text'" in error.title
    assert "'content'" in error.remedy and "'id'" not in error.remedy
    assert inspect(corpus_settings("a.jsonl", text_field="content"), workspace).total_bytes > 0


def test_too_small_to_be_a_corpus(workspace: Path) -> None:
    (workspace / "a.txt").write_text("hello")
    assert "5 bytes" in refusal(workspace, "a.txt").title


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(workspace: Path) -> None:
    (workspace / "a.txt").write_text(prose(1000))
    (workspace / "a.txt").chmod(0)
    assert "Permission denied" in refusal(workspace, "a.txt").title


def test_a_file_that_changes_or_vanishes_while_it_is_read_is_told(workspace: Path) -> None:
    path = workspace / "a.txt"
    path.write_text(prose(1000))
    (file,) = listed(workspace, "a.txt").files
    with pytest.raises(CorpusError, match="changed"), open_unchanged(file) as stream:
        with path.open("a") as other:
            other.write("more")
        stream.read()
    path.unlink()
    with pytest.raises(CorpusError, match="has gone"), open_unchanged(file):
        pass
    os.mkfifo(path)
    with pytest.raises(CorpusError, match="changed"), open_unchanged(file):
        pass


def test_names_that_are_no_utf8_can_be_told(workspace: Path) -> None:
    (workspace / "text").mkdir()
    path = Path(os.fsdecode(os.fsencode(workspace / "text") + b"/\xff.txt"))
    path.write_bytes(bytes(500))
    error = refusal(workspace, "text")
    error.title.encode("utf-8")


def test_the_preflights_look_loads_neither_numpy_nor_tokenizers() -> None:
    import subprocess

    code = (
        "import sys; from pathlib import Path; from engine.corpus.build import inspect;"
        "from engine.settings import CorpusSettings; print(inspect(CorpusSettings(), Path('.')).num_files);"
        "assert not {'numpy', 'tokenizers', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
