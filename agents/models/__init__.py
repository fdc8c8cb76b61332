"""Forecasters behind one interface: Gluformer, persistence, ridge, saved Darts models."""
