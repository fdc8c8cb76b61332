"""Gluformer: network, checkpoints and the inference engine."""
