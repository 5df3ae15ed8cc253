"""What every stage stands on: files, worker processes, compiled kernels, devices, torchrun, progress."""
