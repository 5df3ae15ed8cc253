"""Classify all videos in a folder, window by window, and print when each class is seen.

python examples/classify_folder.py model.safetensors FOLDER
"""

import argparse
from pathlib import Path

import stmn

ENDINGS = {".avi", ".mkv", ".mov", ".mp4"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model file, a run's name, or hf://user/name")
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args()

    model = stmn.load(asked.model)
    print(f"classes: {', '.join(model.classes)}")
    for video in sorted(path for path in asked.folder.rglob("*") if path.suffix.lower() in ENDINGS):
        best, *_ = model.predict(video)
        print(f"{video}: {best.class_name} {best.score:.0%}")
        for window in model.windows(video, length=1.0, step=1.0):
            seen = model.rank(window.logits)[0]
            print(f"  {window.start:6.2f} to {window.end:6.2f} s  {seen.class_name} {seen.score:.0%}")


if __name__ == "__main__":
    main()
