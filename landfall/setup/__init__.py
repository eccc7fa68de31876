"""`landfall setup`: what the loop needs on Azure, compared with what is there, and made."""

from landfall.setup.plan import Outcome, Step, apply, plan
from landfall.setup.resource import Change, NotWanted, Resource

__all__ = ["Change", "NotWanted", "Outcome", "Resource", "Step", "apply", "plan"]
