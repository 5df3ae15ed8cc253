"""The kernels of TV-L1 in Triton. Equations as numbered in `_tvl1_torch.py`; `_tvl1_triton.py` launches them.

A program works on one tile of one pair: `program_id(0)` is the tile, `program_id(1)` the pair. Fields are contiguous
float32, (pairs, planes, H, W). If a pair has converged at a level, its `moving` is 0 and its programs end at once. So
the host need not read from the GPU, and all launches of a batch can be queued, or captured in a CUDA graph.
"""
