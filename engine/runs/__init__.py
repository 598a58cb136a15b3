"""The runs: their folders, stores, supervisors, and the client through which a viewer reaches them."""
