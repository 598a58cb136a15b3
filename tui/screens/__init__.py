"""The four screens, each with its stylesheet beside it."""
