"""The network: built, trained and run; the only part that knows torch."""
