"""The processes of one training run, started by torchrun; one process without it."""

from .world import World, process_group, world_from_environment

__all__ = ["World", "process_group", "world_from_environment"]
