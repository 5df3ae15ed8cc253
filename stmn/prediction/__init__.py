"""The Python API behind `stmn.load`: whole videos, sliding windows, timelines, overlays and gate maps."""
