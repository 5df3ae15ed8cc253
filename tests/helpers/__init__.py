"""What tests share besides fixtures: commands, videos, networks, prepared sets."""
