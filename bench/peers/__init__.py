"""The contenders of bench.engine: each a training loop in a process of its own, behind one gate."""
