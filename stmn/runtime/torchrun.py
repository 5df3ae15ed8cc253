"""What torchrun tells each of the processes that it starts. Nothing here imports torch."""

import os

#: set for each process by torchrun, or by whoever starts the processes in its place
NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def size() -> int:
    """How many processes do this command together; 1 without torchrun."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in NEEDED) else 1


def rank() -> int:
    """This process's number among them. 0 is the one that writes and prints."""
    return int(os.environ["RANK"]) if size() > 1 else 0


def local_rank() -> int:
    """This process's number among those on its machine: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", rank())) if size() > 1 else 0
