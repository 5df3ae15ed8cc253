"""Options that decide which samples a training sees: balanced classes, segments, colours. None is on by default."""

import shlex

import pytest
import torch
from helpers.commands import call, errors_of, write_recipe
from helpers.made_sets import MadeVideo, make_set
from helpers.trainings import CPU, equal, network, steps, weights
from safetensors.torch import load_file

from stmn.errors import Interrupted
from stmn.options.fuse import FuseOptions
from stmn.options.train_stream import TrainStreamOptions
from stmn.runtime.progress import Silent
from stmn.sampling.clips import Clips, Sampling
from stmn.sampling.colour import ColourJitter
from stmn.store.format.read import Store
from stmn.training.loop import train
from stmn.workspace import Workspace

TINY = "--arch resnet18 --width 0.125 --weights none --size 32 --batch 4 --micro-batch 4 --steps 1 --schedule cosine --validation 0"


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with a set of nine training videos of one class, one of another, and none of a third."""
    space = Workspace(tmp_path_factory.mktemp("uneven"))
    generator = torch.Generator().manual_seed(0)

    def video(name: str, class_name: str, part: str = "train") -> MadeVideo:
        levels = torch.randint(256, (16, 40, 40, 3), generator=generator, dtype=torch.uint8)
        return MadeVideo(name, class_name, levels, levels[:15, :, :, :2].permute(0, 3, 1, 2).contiguous(), part)

    videos = [*(video(f"walk{i}", "walk") for i in range(9)), video("jump", "jump"), video("sit", "sit", "test")]
    make_set(space.root / "data" / "uneven", videos)
    return space


def said(space: Workspace, *flags: str) -> str:
    """What a training says of the classes."""
    done = call("train-stream", *shlex.split(TINY), *flags, "--force", "-w", space.root)
    assert done.exit_code == 0, errors_of(done)
    return "\n".join(line for line in done.stderr.splitlines() if "training videos per class" in line)


def test_training_says_how_unequal_the_classes_are(uneven):
    classes = "training videos per class: 9 of 'walk', 1 of 'jump'"
    both = "--balance shows each class equally often, --class-weights lets each count equally in the loss"
    assert said(uneven) == f"{classes} ({both}); none of 'sit' (nothing to learn from)"
    assert (
        said(uneven, "--balance")
        == f"{classes} (each class is shown equally often); none of 'sit' (nothing to learn from)"
    )


def test_class_weights_are_the_other_remedy(uneven):
    assert "(each class counts equally in the loss)" in said(uneven, "--class-weights")


def test_training_says_nothing_of_equal_classes(scratch):
    assert said(scratch) == ""


def test_each_option_is_one_line_of_a_recipe(uneven, tmp_path):
    lines = ["", "balance = true", 'sampling = "segments"', "colour_jitter = [0.4, 0.4, 0.4, 0.1]"]
    stage = 'uses = "train-stream"\narch = "resnet18"\nwidth = 0.125\nweights = "none"\nsize = 32\nbatch = 4\n'
    stage += 'micro_batch = 4\nsteps = 1\nschedule = "cosine"\nvalidation = 0.0\nchunks = 2\nid = "stream"\ndata = "uneven"\n'
    models = []
    for number, line in enumerate(lines):
        recipe = write_recipe(tmp_path / f"{number}.toml", f'name = "r{number}"', stage + line)
        done = call("run", recipe, "-w", uneven.root)
        assert done.exit_code == 0, errors_of(done)
        models.append(
            load_file(next(r for r in uneven.runs() if r.record.get("recipe") == f"r{number}").output("model"))
        )
    assert not any(equal(models[0], model) for model in models[1:])


def test_none_is_on_by_default():
    for model in (TrainStreamOptions, FuseOptions):
        options = model()
        assert (options.balance, options.sampling, options.colour_jitter) == (False, "stride", None)


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ("--colour-jitter 0.4,0.4", "colour_jitter"),
        ("--colour-jitter 0.4,0.4,0.4,0.6", "hue 0 to 0.5"),
        ("--colour-jitter=-1,0,0,0", "must be 0 or more"),
        ("--modality flow --colour-jitter 0.4,0.4,0.4,0.1", "a motion stream reads none"),
        ("--sampling segments --shared-stride", "shared_stride draws strides, and sampling = segments has none"),
        ("--sampling dense", "'dense'"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_written(uneven, flags, error):
    before = len(list(uneven.runs()))
    refused = call("train-stream", *shlex.split(TINY), *shlex.split(flags), "-w", uneven.root)
    assert refused.exit_code == 2 and error in errors_of(refused)[0]
    assert len(list(uneven.runs())) == before


def test_interrupted_training_continues_with_the_same_samples(uneven, tmp_path):
    class Stop(Silent):
        left = 3

        def advance(self, count: int = 1, **fields: object) -> None:
            self.left -= count
            if self.left < 0:
                raise Interrupted("stopped by the test")

    store = Store(uneven.root / "data" / "uneven")
    sampling = Sampling(
        ("rgb", "flow"), 32, 10, 3, (1, 2), seed=0, chunks_by="segments", colour=ColourJitter(0.4, 0.4, 0.4, 0.1),
        balance=True,
    )  # fmt: skip
    plan = steps(6, checkpoint_minutes=1e-9)

    def clips() -> Clips:
        return Clips(store, store.part("1", "train"), sampling)

    whole, parts = network(fused=True), network(fused=True)
    train(whole, clips(), None, plan, CPU, tmp_path / "whole", Silent())
    with pytest.raises(Interrupted):
        train(parts, clips(), None, plan, CPU, tmp_path / "parts", Stop())
    parts = network(fused=True)
    train(parts, clips(), None, plan, CPU, tmp_path / "parts", Silent())
    assert equal(weights(parts), weights(whole))


def test_fused_network_of_eleven_segments(own):
    """The temporal filters see the chunks in order of time; the videos have fewer times than segments."""
    line = "fuse --batch 4 --micro-batch 2 --steps 1 --validation 0 --chunks 11 --sampling segments --data synthetic"
    done = call(*shlex.split(line), "-w", own.root)
    assert done.exit_code == 0, errors_of(done)
    assert "24 of 24 training videos are too short for 11 chunks, at different times, so some of their" in done.stderr
