"""How to lay pictures out in SQLite: payload in, file size out, for page sizes and key layouts, in one run.

python -m benchmarks.store_layout --json FILE
"""

import argparse
import json
import sqlite3
import tempfile
import time
from pathlib import Path

import numpy as np

PAGE_SIZES = (512, 1024, 2048, 4096, 8192, 16384)
LAYOUTS = {
    "rowid": "CREATE TABLE p (key INTEGER PRIMARY KEY, jpeg BLOB)",
    "without_rowid": "CREATE TABLE p (key INTEGER PRIMARY KEY, jpeg BLOB) WITHOUT ROWID",
    "composite": "CREATE TABLE p (video INTEGER, kind INTEGER, t INTEGER, jpeg BLOB, PRIMARY KEY (video, kind, t))",
}


def write(path: Path, layout: str, page_size: int, blobs: list[bytes]) -> None:
    """Write all blobs as one video."""
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
    """Seconds to read pictures in a random order."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro&immutable=1", uri=True)
    where = "video = 1 AND kind = 0 AND t = ?" if layout == "composite" else "key = ?"
    started = time.perf_counter()
    for t in order:
        connection.execute(f"SELECT jpeg FROM p WHERE {where}", (t,)).fetchone()
    return time.perf_counter() - started


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=4000)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    rows = []
    for kind, mean in (("40 px", 900), ("256 px", 14000)):
        sizes = rng.normal(mean, mean / 4, arguments.pictures).clip(300).astype(int)
        blobs = [rng.bytes(int(size)) for size in sizes]
        order = rng.permutation(arguments.pictures).tolist()
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
                    print(rows[-1])
    arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
