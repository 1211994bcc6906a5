"""Execute the graph of a bundle: one contract, one file a backend. `selection.open_engine` is the way in."""

from simplenet_edge.engines.base import Engine
from simplenet_edge.engines.selection import Choice, choose_engine, engine_names, engine_problem, open_engine

__all__ = ["Choice", "Engine", "choose_engine", "engine_names", "engine_problem", "open_engine"]
