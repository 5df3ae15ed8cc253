"""Prepare videos, train both streams, tie them by gates, and test all three.

python examples/train_two_streams.py                      # rendered videos, a few minutes
python examples/train_two_streams.py --videos FOLDER      # your own, one folder per class
"""

import argparse

import stmn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", help="folder with a folder of videos per class; without it videos are rendered")
    parser.add_argument("--steps", type=int, default=60, help="training steps of each network")
    asked = parser.parse_args()

    if asked.videos:
        clips = stmn.prepare(asked.videos, short_side=96, bound=5)
    else:
        clips = stmn.prepare(
            dataset="synthetic", dataset_options={"train": 64, "test": 64}, short_side=40, bound=5
        )  # fmt: skip
    print(f"{clips.videos} videos, {clips.frames} frames")

    appearance = stmn.train_stream(
        modality="rgb", data=clips, arch="resnet18", width=0.25, weights="none", size=32, steps=asked.steps,
        batch=8, micro_batch=8, lr=0.05, schedule="cosine", validation=0,
    )  # fmt: skip
    motion = stmn.train_stream(
        modality="flow", data=clips, arch="resnet18", width=0.25, weights="none", size=32, steps=asked.steps,
        batch=8, micro_batch=8, lr=0.05, schedule="cosine", validation=0,
    )  # fmt: skip
    fused = stmn.fuse(
        appearance=appearance, motion=motion, data=clips, chunks=2, stride_min=1, stride_max=2, steps=asked.steps,
        batch=8, micro_batch=8, lr=0.02, schedule="cosine", validation=0,
    )  # fmt: skip

    for name, model in {"appearance": appearance, "motion": motion, "fused": fused}.items():
        test = stmn.evaluate(model, data=clips)
        low, high = test.interval
        print(f"{name:<12} {test.accuracy:6.1%}   {low:.1%} to {high:.1%} of {test.videos} videos")
    print(f"model: {fused.file}")


if __name__ == "__main__":  # processes that prepare videos import this file
    main()
