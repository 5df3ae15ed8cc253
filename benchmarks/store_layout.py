"""How large are SQLite files of pictures, and how fast are they read?

    python -m benchmarks.store_layout --json FILE

It tries several page sizes and key layouts, with pictures of two sizes.
"""

import argparse
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.frame import run

PAGE_SIZES = (512, 1024, 2048, 4096, 8192, 16384)
LAYOUTS = {
    "rowid": "CREATE TABLE p (key INTEGER PRIMARY KEY, jpeg BLOB)",
    "without_rowid": "CREATE TABLE p (key INTEGER PRIMARY KEY, jpeg BLOB) WITHOUT ROWID",
    "composite": "CREATE TABLE p (video INTEGER, kind INTEGER, t INTEGER, jpeg BLOB, PRIMARY KEY (video, kind, t))",
}


def write(path: Path, layout: str, page_size: int, blobs: list[bytes]) -> None:
    """Write all pictures as one video."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {page_size}")
    connection.execute(LAYOUTS[layout])
    connection.execute("BEGIN")
    for t, blob in enumerate(blobs):
        if layout == "composite":
            connection.execute("INSERT INTO p VALUES (1, 0, ?, ?)", (t, blob))
        else:
            connection.execute("INSERT INTO p VALUES (?, ?)", (t, blob))
    connection.execute("COMMIT")
    connection.close()


def read(path: Path, layout: str, order: list[int]) -> float:
    """Seconds that reading the pictures in `order` takes."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    where = "video = 1 AND kind = 0 AND t = ?" if layout == "composite" else "key = ?"
    started = time.perf_counter()
    for t in order:
        connection.execute(f"SELECT jpeg FROM p WHERE {where}", (t,)).fetchone()
    return time.perf_counter() - started


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each size of pictures, layout and page size."""
    rng = np.random.default_rng(0)
    rows = []
    for kind, mean in (("40 px", 900), ("256 px", 14000)):
        sizes = rng.normal(mean, mean / 4, options.pictures).clip(300).astype(int)
        blobs = [rng.bytes(int(size)) for size in sizes]
        order = rng.permutation(options.pictures).tolist()
        for layout in LAYOUTS:
            for page_size in PAGE_SIZES:
                with tempfile.TemporaryDirectory() as folder:
                    path = Path(folder) / "p.sqlite"
                    write(path, layout, page_size, blobs)
                    seconds = min(read(path, layout, order) for _ in range(3))
                    overhead = path.stat().st_size / sum(map(len, blobs)) - 1
                    rows.append(
                        {
                            "pictures": kind,
                            "layout": layout,
                            "page_size": page_size,
                            "overhead": round(overhead, 4),
                            "reads_per_second": round(len(order) / seconds),
                        }
                    )
    return rows


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--pictures", type=int, default=4000, help="pictures per file")


if __name__ == "__main__":
    run(__doc__, add_options, measure)
