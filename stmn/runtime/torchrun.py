"""What torchrun says to each of the processes that it starts. Nothing here imports torch."""

import os

#: set for each process by torchrun, or by whoever starts the processes in its place
_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def size() -> int:
    """How many processes run this command together; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _NEEDED) else 1


def rank() -> int:
    """This process's number among them, from 0. Process 0 is the one that writes and prints."""
    return int(os.environ["RANK"]) if size() > 1 else 0


def local_rank() -> int:
    """This process's number among those on its machine, which is the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", rank())) if size() > 1 else 0
