"""Faster versions of the networks' functions on a CPU. Results differ from PyTorch's by rounding.

Training calls `use_fast_convolutions`. Testing makes a copy of the network with `fold_batch_norms`, and then calls
`freeze_convolutions`.

1. `winograd`: 3x3 convolutions with a quarter of the multiplications.
2. `functions`: convolutions with faster gradients, as autograd functions.
3. `convolutions`: which of a network's convolutions are computed this way.
4. `folding`: a copy of a network for testing, with fewer steps.
"""
