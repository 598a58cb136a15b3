"""Training itself: the only room that imports torch, reached as a process (`python -m engine.train`)."""
