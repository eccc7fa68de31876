"""A strict stand-in for Azure over HTTPS: what the real SDKs talk to when there is no Azure."""

from tests.standin.standin import StandIn, Storage

__all__ = ["StandIn", "Storage"]
