"""Networks as graphs of layers: what they consist of, see and cost; arithmetic, without torch."""
