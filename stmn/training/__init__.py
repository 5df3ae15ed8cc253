"""Training: the loop, its plan and schedule, its log and its saved states."""
