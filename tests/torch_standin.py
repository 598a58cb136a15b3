"""A torch that says it is built for CUDA and sees a GPU, so that the checks of a GPU are tested without one.

    environment = build(tmp_path, cuda="12.8")     # PYTHONPATH for a child process

It is the real torch with a few answers replaced; nothing can be computed on its GPU.
"""

from __future__ import annotations

from pathlib import Path

_INIT = """
import importlib, sys
from pathlib import Path
here = str(Path(__file__).parent.parent)
sys.path.remove(here)
del sys.modules["torch"]
torch = importlib.import_module("torch")
sys.path.insert(0, here)
torch.version.cuda = {cuda!r}
torch.cuda.is_available = lambda: {is_available}
torch.cuda.device_count = lambda: 1
torch.cuda.mem_get_info = lambda index: (3 * 2**30, 4 * 2**30)
torch.cuda.get_device_capability = lambda index: (8, 6)
torch.cuda.get_device_name = lambda index: "NVIDIA GeForce RTX 2050"
"""


def build(tmp: Path, cuda: str | None = "12.8", *, is_available: bool = True) -> dict[str, str]:
    """What a child process needs in its environment to import that torch."""
    folder = tmp / "torch-standin" / "torch"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(_INIT.format(cuda=cuda, is_available=is_available))
    (folder / "version.py").write_text(f"__version__ = '2.13.0'\ncuda = {cuda!r}\n")
    return {"PYTHONPATH": str(folder.parent)}
