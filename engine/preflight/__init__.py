"""The checklist before a run: one file a family of checks, each check a verdict with evidence and a remedy."""
