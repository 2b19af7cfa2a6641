"""Networks of others, written plainly: modules named as the keys of their checkpoints."""
