"""Routing policies: which server an arriving request of the engine `continuous` is sent to.

>>> from llmsched.policies.routing import names, parse_routing
>>> "power-of-two" in names(), parse_routing("prefix-load:prefix=5").label
(True, 'prefix-load:prefix=5')
"""

from llmsched.policies.routing import affinity, load  # noqa: F401  (importing a file registers its policies)
from llmsched.policies.routing.registry import BoundRouting, RoutingPolicy, names, routing
from llmsched.policies.routing.selection import parse_routing, parse_routings

__all__ = ["BoundRouting", "RoutingPolicy", "names", "parse_routing", "parse_routings", "routing"]
