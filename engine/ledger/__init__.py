"""What training costs: energy, prices, cloud offers, the ledger of all runs, and TRAINING.md."""
