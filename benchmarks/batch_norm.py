"""What batch statistics do to a trained network: accuracy, and how far test logits move, with the same weights.

    python -m benchmarks.batch_norm --json FILE --workspace FOLDER [--name fused]

Each finished model of a workspace is tested on the test part of its split with statistics made in several ways from
training samples, which change no weight: `trained` are those in its file; `per_micro_batch` and `per_step` are running
statistics, with the weight 0.1 of a micro-batch (PyTorch's default) and 0.05 of a step (the authors' code);
`recomputed` are mean and variance over all values of a pass over the training list; `mean_of_variances` are from the
same pass, but without the variance of the means (`torch.optim.swa_utils.update_bn`). Each but the first is made twice,
from two stretches of samples; `moves` is the root mean square of the difference of the test logits, divided by their
standard deviation. `gained` and `lost` count the videos that are right only with other statistics than `trained`, and
only with those. The time of a pass is compared with that of training steps in processor time.
"""

import argparse
import copy
import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.frame import describe_machine, run, take_time
from stmn.evaluation.inference import score_videos
from stmn.evaluation.protocol import Protocol
from stmn.nets.checkpoint import Description, load_checkpoint
from stmn.nets.network import Network
from stmn.options import options_of
from stmn.runtime.device import Device, choose_device
from stmn.runtime.progress import Silent
from stmn.sampling.clips import Clips, Sampling
from stmn.sampling.loader import load_batches
from stmn.sampling.order import MicroBatches
from stmn.stages.training import make_plan
from stmn.store.format.read import Store
from stmn.training.learner import select_inputs
from stmn.training.loop import train
from stmn.training.normalisation import BatchNorm, Normalisation
from stmn.training.plan import Plan
from stmn.training.recompute import count_samples, recompute_statistics
from stmn.workspace import Run, Workspace

#: (mean, variance) of a layer by its name
Made = dict[str, tuple[Tensor, Tensor]]
#: steps of training that are timed
TIMED = 6


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options of this benchmark."""
    parser.add_argument("--workspace", type=Path, required=True, help="with finished trainings")
    parser.add_argument("--name", default="", help="only runs whose name or stage begins so")
    parser.add_argument("--seed", type=int, action="append", help="only runs of this seed (default: all)")
    parser.add_argument("--steps", type=int, default=64, help="steps that running statistics are made from")
    parser.add_argument("--threads", type=int, default=2)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The content of the JSON file."""
    torch.set_num_threads(options.threads)
    workspace = Workspace(options.workspace)
    models = []
    for found in sorted(workspace.runs(), key=seed_of):
        named = str(found.record.get("stage", found.name)).startswith(options.name)
        if found.makes("model") and named and (not options.seed or seed_of(found) in options.seed):
            models.append(measure_model(found, workspace, options.steps))
            print(json.dumps(models[-1]), file=sys.stderr, flush=True)
    stages = dict.fromkeys(model["stage"] for model in models)
    return {
        **describe_machine(),
        "over_seeds": {stage: over_seeds([m for m in models if m["stage"] == stage]) for stage in stages},
        "models": models,
    }


def seed_of(found: Run) -> int:
    """The seed of a run."""
    return int(found.record.get("options", {}).get("seed", 0))


def measure_model(found: Run, workspace: Workspace, steps: int) -> dict[str, Any]:
    """Test one model with all statistics."""
    network, description = load_checkpoint(found.output("model"))
    device = choose_device("cpu")
    with Store(workspace.data_dir(description.trained_on.data), cache_bytes=1 << 30) as store:
        clips, plan = training_of(found, description, store)
        device.place(network)
        scored = {"trained": score(network, description, store, device)}
        cost = time_pass(network, clips, plan, device)
        for stretch, first in (("", plan.steps), (" again", plan.steps + 1000 * steps)):
            for way, made in make_statistics(network, clips, plan, first, steps, device).items():
                with installed(network, made):
                    scored[way + stretch] = score(network, description, store, device)
        labels = [store.header.classes.index(video.class_name) for video in store.part(plan_split(found), "test")]
    return {
        "run": found.name,
        "stage": found.record.get("stage", found.name),
        "seed": seed_of(found),
        "micro_batch": plan.micro_batch,
        "micro_batches": plan.micro_batches,
        "test_videos": len(labels),
        "cost": cost,
        "outputs": {
            output: compare({way: logits[output] for way, logits in scored.items()}, torch.tensor(labels))
            for output in next(iter(scored.values()))
        },
    }


def training_of(found: Run, description: Description, store: Store) -> tuple[Clips, Plan]:
    """The samples and the plan of a finished training; options that came later have their defaults."""
    model: Any = options_of(found.record["verb"])
    options = model(**{name: value for name, value in description.training.items() if name in model.model_fields})
    network = description.network
    modalities = tuple(stream.modality for stream in network.streams)
    sampling = Sampling(
        modalities, network.size, network.stack_length, options.chunks, options.strides, options.augment, options.seed
    )
    clips = Clips(store, store.part(options.split, "train"), sampling)
    plan = make_plan(options, len(clips))
    return clips, replace(plan, bn_passes=1, log_every=TIMED, validate_every=0)


def plan_split(found: Run) -> str:
    """The split that a run was trained on."""
    return str(found.record["options"]["split"])


def score(network: Network, description: Description, store: Store, device: Device) -> dict[str, Tensor]:
    """Logits of the test videos by `evaluate`'s defaults; `both` is the mean of two streams."""
    protocol = Protocol(
        flips="mirror" in store.header.keeps, short_side=description.test_short_side, crop=description.network.size
    )
    videos = store.part(description.trained_on.split, "test")
    found = score_videos(network, store, videos, protocol, device, Silent())
    return found | {"both": torch.stack(list(found.values())).mean(dim=0)} if len(found) > 1 else found


def make_statistics(
    network: Network, clips: Clips, plan: Plan, first: int, steps: int, device: Device
) -> dict[str, Made]:
    """Statistics of each kind, from the samples of the steps from `first` on."""
    layers = Normalisation(network).trained
    steps = max(steps, count_samples(plan, len(clips)) // plan.batch)
    passes = record_passes(network, clips, plan, first, steps, device)
    one_pass = count_samples(plan, len(clips)) // plan.batch * plan.micro_batches
    step_weight = 1 - (1 - 0.05) ** (1 / plan.micro_batches)
    kept = copy.deepcopy(network)
    recompute_statistics(Normalisation(kept), clips, plan, first, device, Silent())
    exact = Normalisation(kept).trained
    return {
        "per_micro_batch": {name: run_average(passes[name], 0.1) for name in layers},
        "per_step": {name: run_average(passes[name], step_weight) for name in layers},
        "mean_of_variances": {name: run_average(passes[name][:one_pass], 0.0) for name in layers},
        "recomputed": {name: values_of(layer) for name, layer in exact.items()},
    }


def record_passes(
    network: Network, clips: Clips, plan: Plan, first: int, steps: int, device: Device
) -> dict[str, list[tuple[Tensor, Tensor]]]:
    """The batch statistics of each layer in each micro-batch."""
    found: dict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
    copied = copy.deepcopy(network).train()
    for name, layer in Normalisation(copied).trained.items():
        layer.momentum = 1.0
        layer.register_forward_hook(lambda layer, _, __, name=name: found[name].append(values_of(layer)))
    order = MicroBatches(len(clips), plan.batch, plan.micro_batch, plan.seed, first, first + steps, stride=plan.stride)
    with torch.no_grad():
        for batch in load_batches(clips, order, device.loader_threads):
            copied.logits(*select_inputs(copied, batch))
    return found


def values_of(layer: BatchNorm) -> tuple[Tensor, Tensor]:
    """Copies of the running mean and variance of a layer."""
    assert layer.running_mean is not None and layer.running_var is not None
    return layer.running_mean.clone(), layer.running_var.clone()


def run_average(values: list[tuple[Tensor, Tensor]], weight: float) -> tuple[Tensor, Tensor]:
    """A running average in which each value has at least this weight; 0 for the mean of all."""
    mean, variance = values[0]
    for number, (m, v) in enumerate(values[1:], 2):
        share = max(weight, 1 / number)
        mean, variance = mean + share * (m - mean), variance + share * (v - variance)
    return mean, variance


@contextmanager
def installed(network: Network, made: Made) -> Iterator[None]:
    """The network with these statistics."""
    layers = Normalisation(network).trained
    before = {name: values_of(layer) for name, layer in layers.items()}
    with ExitStack() as stack:
        stack.callback(install, layers, before)
        install(layers, made)
        yield


def install(layers: dict[str, BatchNorm], made: Made) -> None:
    """Write statistics into layers."""
    for name, (mean, variance) in made.items():
        layer = layers[name]
        assert layer.running_mean is not None and layer.running_var is not None
        layer.running_mean.copy_(mean)
        layer.running_var.copy_(variance)


def time_pass(network: Network, clips: Clips, plan: Plan, device: Device) -> dict[str, float]:
    """Processor seconds of a pass, and of the whole training by that of a few of its steps."""
    other = copy.deepcopy(network)
    _, seconds = take_time(
        lambda: recompute_statistics(Normalisation(other), clips, plan, plan.steps, device, Silent())
    )
    few = replace(plan, steps=TIMED, bn_passes=0, schedule=replace(plan.schedule, rate=1e-9))
    with tempfile.TemporaryDirectory() as folder:
        _, trained = take_time(lambda: train(other, clips, None, few, device, Path(folder), Silent()))
    whole = trained / TIMED * plan.steps
    return {
        "seconds_of_a_pass": round(seconds, 2),
        "seconds_of_training": round(whole, 1),
        "fraction": round(seconds / whole, 4),
        "seconds_a_sample_over_training": round(
            seconds / count_samples(plan, len(clips)) / (trained / TIMED / plan.batch), 3
        ),
    }


def compare(scored: dict[str, Tensor], labels: Tensor) -> dict[str, Any]:
    """Accuracy of each kind of statistics, paired counts, and how far logits move."""
    right = {way: logits.argmax(dim=1) == labels for way, logits in scored.items()}
    deviation = float(scored["trained"].std())
    result: dict[str, Any] = {}
    for way, found in right.items():
        if way.endswith(" again"):
            continue
        row: dict[str, Any] = {"accuracy": round(float(found.float().mean()), 4)}
        if way != "trained":
            other = scored[f"{way} again"]
            row |= {
                "accuracy_again": round(float(right[f"{way} again"].float().mean()), 4),
                "gained": int((found & ~right["trained"]).sum()),
                "lost": int((right["trained"] & ~found).sum()),
                "moves": round(float((scored[way] - other).square().mean().sqrt()) / deviation, 4),
                "from_trained": round(float((scored[way] - scored["trained"]).square().mean().sqrt()) / deviation, 4),
            }
        result[way] = row
    return result


def over_seeds(models: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and standard deviation over the models of a stage."""
    result: dict[str, Any] = {"seeds": [model["seed"] for model in models]}
    result["fraction_of_training"] = round(statistics.mean(model["cost"]["fraction"] for model in models), 4)
    for output, ways in models[0]["outputs"].items():
        for way in ways:
            rows = [model["outputs"][output][way] for model in models]
            accuracies = [row["accuracy"] for row in rows]
            line = {
                "accuracy": round(statistics.mean(accuracies), 4),
                "deviation": round(statistics.stdev(accuracies), 4) if len(rows) > 1 else None,
            }
            if way != "trained":
                line |= {key: sum(row[key] for row in rows) for key in ("gained", "lost")}
                line |= {key: round(statistics.mean(row[key] for row in rows), 4) for key in ("moves", "from_trained")}
            result[f"{output}, {way}"] = line
    return result


if __name__ == "__main__":
    run(__doc__, add_options, measure)
