"""`python -m engine.runs RUN_DIR`: leave the terminal, then supervise the run in that folder."""

from __future__ import annotations

import sys
from pathlib import Path

from engine.runs.folder import RunFolder
from engine.runs.launch import detach

if __name__ == "__main__":
    folder = RunFolder(Path(sys.argv[1]).resolve())
    if "--attached" not in sys.argv[2:]:
        detach()
    # Imported after the fork: no thread of a library may live through it.
    from engine.runs.lives import main

    sys.exit(main(folder))
