"""What a card does: each part of `stmn` that runs on CUDA, beside the limit that the card sets."""
