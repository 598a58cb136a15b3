"""`python -m tui`: the same as `llm-tui`."""

from tui.cli import main

if __name__ == "__main__":
    main()
