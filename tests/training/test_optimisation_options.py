"""The same options as a user gives them: refusals before anything is written, notices, and what a run records."""

import re
import shlex

import numpy as np
import pytest
from helpers.commands import call, errors_of, over, write_recipe
from helpers.trainings import CPU, network, videos
from safetensors.torch import load_file

from stmn.errors import UsageError
from stmn.runtime.progress import Silent
from stmn.training.ending import judge_saturation
from stmn.training.loop import train
from stmn.training.plan import Plan
from stmn.training.schedule import Schedule
from stmn.workspace import Run, Workspace

TINY = shlex.split(
    "train-stream --modality flow --arch resnet18 --width 0.125 --weights none --size 32 --batch 4 --micro-batch 4"
)


def done(workspace: Workspace, *more: object) -> tuple[Run, str]:
    """The run of the command, and what it said."""
    result = call(*over(TINY, *more, "--workspace", workspace.root))
    assert result.exit_code == 0, result.stderr
    return max(workspace.runs(), key=lambda run: run.path.stat().st_mtime_ns), result.stderr


@pytest.mark.parametrize(("options", "line"), [
    ("--validation 0", "schedule = plateau lowers lr when validation stops improving, and validation = 0 holds no "
     "videos out: use schedule = steps or cosine, or a larger validation"),
    ("--schedule cosine --validation 0 --keep best", "keep = best is best in validation, and validation = 0 holds no "
     "videos out: set validation"),
    ("--keep worst", "keep = 'worst': use last, best, or every N with a number of steps, such as 'every 500'"),
    ("--schedule cosine --milestones 3", "milestones belong to schedule = steps, and schedule is cosine"),
    ("--schedule steps --milestones=-3", "milestones = [-3.0]: give rising numbers of epochs above 0, such as 20,40"),
    ("--schedule steps --milestones 3,1", "milestones = [3.0, 1.0]: give rising numbers of epochs above 0, such as 20,40"),
    ("--schedule steps --patience 3", "patience belongs to schedule = plateau, and schedule is steps"),
    ("--warmup 3 --warmup-epochs 1", "warmup (steps) and warmup_epochs say the same thing: set one"),
    ("--class-weights --balance", "balance and class_weights both make up for rare classes, twice over: set one"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(scratch, tmp_path, options, line):
    refused = call(*over(TINY, *shlex.split(options), "--workspace", scratch.root))
    assert refused.exit_code == 2 and errors_of(refused) == [f"train-stream: {line}"]
    assert not scratch.runs_dir.exists()


def test_plateau_without_validation_is_refused_when_a_recipe_is_checked(tmp_path):
    for uses, schedule in (("train-stream", ""), ("fuse", 'schedule = "plateau"\n')):
        recipe = write_recipe(
            tmp_path / "r.toml", 'name = "r"', f'id = "s"\nuses = "{uses}"\n{schedule}validation = 0.0'
        )
        checked = call("recipes", "validate", recipe)
        assert checked.exit_code != 0 and "schedule = plateau lowers lr" in checked.stderr + checked.stdout


def test_warm_up_as_long_as_the_training_is_refused(scratch):
    for warmup in ("--warmup 3", "--warmup-epochs 1"):
        refused = call(*over(TINY, "--steps", 3, *shlex.split(warmup), "--workspace", scratch.root))
        assert refused.exit_code == 2
        (line,) = errors_of(refused)
        assert re.fullmatch(r"lr would rise for \d steps, and the training has 3: use a shorter warm-up", line)


def test_plateau_with_too_few_validations_says_that_the_rate_stays(scratch):
    _, said = done(scratch, "--steps", 30, "--patience", 3)
    assert "plateau: 30 steps have 3 validations, too few to lower lr with a patience of 3: it stays at 0.01" in said
    _, said = done(scratch, "--steps", 30, "--patience", 2)
    assert "it stays at" not in said


@pytest.mark.parametrize(("schedule", "more", "line"), [
    ("cosine", {"keep_best": True}, "keep = best needs validation, and no videos are held out for it"),
    ("plateau", {}, "schedule = plateau needs validation, and no videos are held out for it"),
])  # fmt: skip
def test_what_validation_decides_needs_one(prepared, tmp_path, schedule, more, line):
    plan = Plan(15, 8, 8, Schedule(schedule, 0.1, 15), 0, validate_every=50, **more)
    with pytest.raises(UsageError, match=re.escape(line)):
        train(network(), videos(prepared), None, plan, CPU, tmp_path / "out", Silent())
    assert not (tmp_path / "out").exists()


def test_the_last_step_is_validated_whatever_the_interval(prepared, tmp_path):
    clips = videos(prepared)
    plan = Plan(3, 8, 8, Schedule("cosine", 0.1, 3), 0, validate_every=50, keep_best=True)
    state = train(network(), clips, clips, plan, CPU, tmp_path / "out", Silent())
    assert len(state.errors) == plan.validations == 1


def test_adamw_with_sgds_rate_says_so(scratch):
    _, said = done(scratch, "--steps", 2, "--optimizer", "adamw")
    assert "adamw: lr = 0.01 is the default for SGD; AdamW usually wants a tenth of it" in said
    _, said = done(scratch, "--steps", 2, "--optimizer", "adamw", "--lr", "1e-3")
    assert "adamw" not in said


@pytest.mark.parametrize("line", [
    'optimizer = "adamw"', "warmup = 5", "warmup_epochs = 0.5", "clip = 1.0", "label_smoothing = 0.1",
    "class_weights = true", "ema = 0.99", "lr_new = 10.0", "lr_bias = 2.0", "lr_gain = 2.0", 'keep = "best"',
    'keep = "every 10"',
])  # fmt: skip
def test_each_is_a_line_of_a_recipe_of_both_trainings(tmp_path, line):
    stage = 'arch = "resnet18"\nweights = "none"\n'
    recipe = write_recipe(
        tmp_path / "r.toml", 'name = "r"',
        f'id = "a"\nuses = "train-stream"\nmodality = "rgb"\n{stage}{line}',
        f'id = "m"\nuses = "train-stream"\nmodality = "flow"\n{stage}{line}',
        f'id = "f"\nuses = "fuse"\nappearance = "a"\nmotion = "m"\n{line}',
    )  # fmt: skip
    checked = call("recipes", "validate", recipe)
    assert checked.exit_code == 0, checked.stderr


def test_keep_every_saves_models_that_can_be_tested(scratch):
    run, _ = done(scratch, "--steps", 5, "--schedule", "cosine", "--validation", 0, "--keep", "every 2")
    assert sorted(path.name for path in run.path.glob("*.safetensors")) == [
        "model-000002.safetensors", "model-000004.safetensors", "model.safetensors",
    ]  # fmt: skip
    first, last = (load_file(run.path / name) for name in ("model-000002.safetensors", "model.safetensors"))
    name = "streams.motion.fc.weight"
    assert first.keys() == last.keys() and not (first[name] == last[name]).all()
    tested = call("evaluate", run.path / "model-000002.safetensors", "--chunks", 2, "--workspace", scratch.root)
    assert tested.exit_code == 0, tested.stderr


def test_steps_chosen_with_validation_train_on_the_full_list(scratch):
    """Train with validation, read the line, and type what it says."""
    chosen, said = done(scratch, "--steps", 60, "--patience", 1, "--keep", "best", "--lr", "1e-9", "--bn-passes", 0)
    kept, of = re.search(
        r"validation: keeping the weights of step (\d+) of (\d+): error [\d.]+ %, the lowest", said
    ).groups()
    assert chosen.results["kept_step"] == int(kept) and chosen.results["steps"] == int(of) < 60
    held_out = 24 - chosen.results["training_videos"]
    assert held_out > 0
    options = re.search(r"to train the same way on all 24 videos: (.*)", said)[1]
    assert "--validation 0" in options and "--schedule steps --milestones" in options
    full, said = done(scratch, *shlex.split(options), "--lr", "1e-9")
    assert full.results["training_videos"] == 24 and "to train the same way" not in said
    # as many passes over the longer list
    passes = full.results["steps"] * 4 / 24, int(kept) * 4 / chosen.results["training_videos"]
    assert passes[0] == pytest.approx(passes[1], rel=0.1)


def log_of(accuracies: list[float]) -> tuple[list[dict], Plan]:
    """A log with a row for every ten steps."""
    count = 10 * len(accuracies)
    rows = [{"step": 10 * n, "accuracy": accuracy} for n, accuracy in enumerate(accuracies, 1)]
    return rows, Plan(count, 64, 64, Schedule("cosine", 0.1, count), 0)


def test_training_that_still_rises_is_unsaturated():
    rows, plan = log_of([0.25 + 0.44 * n / 29 for n in range(30)])  # to 69 %
    found = judge_saturation(rows, plan, [])
    assert found["accuracy"] == pytest.approx(0.69) and found["accuracy_before"] == pytest.approx(
        0.69 - 0.44 * 9 / 29, abs=1e-3
    )
    assert found["steps"] == 90
    assert (
        judge_saturation(*log_of([0.6 + 0.38 * n / 29 for n in range(30)]), []) is None
    )  # 98 %: nothing left to learn
    assert judge_saturation(*log_of([0.3, 0.4, 0.5]), []) is None  # too short to tell


def test_noise_is_not_taken_for_learning():
    rng = np.random.default_rng(0)
    flat = [judge_saturation(*log_of(list(rng.binomial(640, 0.6, 30) / 640)), []) for _ in range(500)]
    assert sum(found is not None for found in flat) <= 3
    rising = [np.linspace(0.3, 0.69, 30) + rng.normal(0, 0.02, 30) for _ in range(100)]
    assert sum(judge_saturation(*log_of(list(values)), []) is not None for values in rising) >= 80


@pytest.mark.slow
def test_unsaturated_training_says_so_and_records_it(scratch):
    run, said = done(
        scratch, "--steps", 250, "--schedule", "cosine", "--validation", 0, "--lr", "0.001", "--warmup", 249,
        "--batch", 16, "--micro-batch", 16,
    )  # fmt: skip
    found = run.results["unsaturated"]
    assert found and found["accuracy"] - found["accuracy_before"] >= 0.03
    line = next(line for line in said.splitlines() if line.startswith("not saturated:"))
    assert re.fullmatch(
        r"not saturated: training accuracy is \d+ % and rising, from \d+ % \d+ steps before; train longer, with --steps "
        r"500 for instance", line,
    )  # fmt: skip
