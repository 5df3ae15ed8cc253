"""What a GPU does: each part of `stmn` that runs on CUDA, beside the limit that the GPU sets."""
