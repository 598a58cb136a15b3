"""The windows of llm-tui: a Textual app and a command line, formatting only."""
