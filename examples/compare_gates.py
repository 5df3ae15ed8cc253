"""Train the same two streams with several kinds of gates, from a recipe of the package, and compare them.

python examples/compare_gates.py --steps 60
"""

import argparse

import stmn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="training steps of each network")
    parser.add_argument("--videos", type=int, default=64, help="videos to train on, and to test on")
    asked = parser.parse_args()

    small = [
        f"dataset_options.train={asked.videos}", f"dataset_options.test={asked.videos}", f"steps={asked.steps}",
    ]  # fmt: skip
    done = stmn.run("demo", set=small, until="motion")  # the streams; each is trained once
    for fusion in ("multiply", "add"):
        fused = stmn.fuse(
            appearance=done["appearance"], motion=done["motion"], data=done["videos"], fusion=fusion, chunks=2,
            stride_min=1, stride_max=2, steps=asked.steps, batch=8, micro_batch=8, lr=0.02, schedule="cosine",
            validation=0,
        )  # fmt: skip
        test = stmn.evaluate(fused, data=done["videos"])
        print(f"{fusion:<10} {test.accuracy:.1%} of {test.videos} videos, trained in {fused.seconds:.0f} s")


if __name__ == "__main__":
    main()
