"""The `glucast` command."""
