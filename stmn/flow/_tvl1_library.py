"""The C kernel of TV-L1."""

import ctypes

from stmn.runtime.compiled import Kernel, load_once

KERNEL = Kernel("tvl1", "stmn.flow")


@load_once(KERNEL)
def load(library: ctypes.CDLL) -> None:
    """Declare the kernel's function."""
    library.stmn_tvl1.argtypes = (*[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p)
    library.stmn_tvl1.restype = ctypes.c_int
