"""The foundation of every stage: files, worker processes, compiled kernels, devices, torchrun, progress."""
