"""The name that pictures still have for shared computations."""

from query_api.shared_computations import SharedComputations as InFlight

__all__ = ["InFlight"]
