"""The Functions host of a laptop."""

from landfall.host.home_lock import HostInfo, running
from landfall.host.host import LaptopHost

__all__ = ["HostInfo", "LaptopHost", "running"]
