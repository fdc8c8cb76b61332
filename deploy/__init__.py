"""Launchers: brokers, the supervisor of `glucast up`, containers."""
