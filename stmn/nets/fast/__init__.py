"""What makes the networks fast on a CPU: the same functions, computed otherwise."""
