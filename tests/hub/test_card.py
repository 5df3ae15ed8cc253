"""What `stmn push` would send: the card, which is made from records, and the recipe."""

import re
import tomllib
from pathlib import Path

import pytest
from helpers.commands import call, errors_of
from helpers.predicting import model_of
from huggingface_hub import ModelCard

import stmn
from stmn.nets.checkpoint import load_checkpoint, read_description, save_checkpoint
from stmn.store.format.read import Store
from stmn.workspace import Workspace

LICENCE = ("--licence", "cc-by-4.0")


@pytest.fixture(scope="module")
def written(trained, tmp_path_factory) -> Path:
    """What would be sent of the fused model."""
    folder = tmp_path_factory.mktemp("push") / "made"
    dry = call("push", "fused", "ada/gates", *LICENCE, "-w", trained.root, "--dry-run", folder)
    assert dry.exit_code == 0, dry.stderr
    assert dry.stdout.splitlines() == [str(folder / name) for name in ("README.md", "model.safetensors", "recipe.toml")]
    return folder


def evaluation(workspace: Workspace, name: str) -> dict:
    """What the evaluation of a run found."""
    model = model_of(workspace, name).parent.name
    return next(run.results for run in workspace.runs() if run.results.get("of") == [model])


def section(card: str, title: str) -> str:
    return card.partition(f"\n## {title}\n")[2].partition("\n## ")[0].strip()


def test_card_says_what_the_records_say(written, trained):
    found, card = evaluation(trained, "fused"), (written / "README.md").read_text()
    low, high = (f"{100 * value:.1f}" for value in found["interval"])
    assert f"| accuracy | {100 * found['accuracy']:.1f} | {low} to {high} |" in section(card, "Accuracy")
    for stream, share in found["streams"].items():
        assert f"| {stream} stream alone | {100 * share:.1f} |" in section(card, "Accuracy")
    assert f"Measured with: {found['protocol']['words']}." in section(card, "Accuracy")
    rows = re.findall(r"^\| (\w+) \| (\d+) \| ([\d.]+) \|", section(card, "Classes"), re.MULTILINE)
    expected = [(name, "3", f"{100 * one['accuracy']:.1f}") for name, one in found["per_class"].items()]
    assert rows == expected and len(rows) == 4
    assert "| learned from | 24 videos, the training part of split 1 |" in card
    for stream in ("appearance", "motion"):
        assert f"| starting weights of {stream} | random |" in section(card, "Data")
    assert "tied by `multiply` gates (motion to appearance)" in card
    assert section(card, "Licence") == "Of the weights: cc-by-4.0"
    untested = section(card, "Not tested")
    assert "- Real videos: its data set is rendered." in untested
    assert "- New people or recordings: no groups" in untested and "always names one of them" in untested


def test_head_of_the_card_is_what_the_hub_reads(written, trained):
    head = ModelCard((written / "README.md").read_text()).data
    assert (head.license, head.library_name, head.pipeline_tag) == ("cc-by-4.0", "stmn", "video-classification")
    [result] = head.eval_results
    assert result.metric_value == round(evaluation(trained, "fused")["accuracy"], 4)
    assert (result.dataset_type, result.dataset_split) == ("synthetic", "test")


def test_use_of_the_card_is_three_lines_that_run(written, trained):
    code = re.search(r"```python\n(.*?)```", (written / "README.md").read_text(), re.DOTALL)[1].splitlines()
    assert len(code) == 3 and code[1] == 'model = stmn.load("hf://ada/gates")'
    video = next((trained.data_dir("synthetic") / "videos" / "test").glob("*.mp4"))
    names = {"model": stmn.load(written / "model.safetensors")}
    assert eval(code[2].replace("clip.mp4", str(video)), names).class_name in names["model"].classes


def test_recipe_repeats_the_runs(written, trained):
    """In the workspace where they were made nothing is left to do but to look at the videos."""
    planned = call("run", written / "recipe.toml", "-w", trained.root, "--dry-run")
    assert planned.exit_code == 0, planned.stderr
    assert "5 stages, 4 up to date" in planned.stdout
    stages = tomllib.loads((written / "recipe.toml").read_text())["stage"]
    assert [stage["id"] for stage in stages] == ["videos", "appearance", "motion", "fused", "test"]


def test_nothing_sent_names_a_folder_of_this_machine(written, trained):
    """The model file that training wrote does."""
    whole = model_of(trained, "fused").read_bytes()
    for word in (str(trained.root).encode(), b"train/which_moves_00000.mp4"):
        assert word in whole
        assert not any(word in path.read_bytes() for path in written.iterdir())


def test_model_that_is_sent_still_knows_what_it_has_seen(written, trained):
    """By the hashes of the files, whatever they are called elsewhere."""
    sent, own = (read_description(path) for path in (written / "model.safetensors", model_of(trained, "fused")))
    assert sent.trained_on.videos == [] and sent.trained_on.split_hash == own.trained_on.split_hash
    assert sent.licence == "cc-by-4.0"
    with Store(trained.data_dir("synthetic")) as store:
        seen = [[video.id for video in one.trained_on.seen(store.videos.values(), "other")] for one in (sent, own)]
    assert seen[0] == seen[1] and len(seen[0]) == 24


@pytest.mark.parametrize(("flags", "words"), [
    ((), "a model needs a licence, or nobody may use it: name one with --licence"),
    (("--licence", " "), "a model needs a licence"),
    (("--licence", "apache2.0"), "--licence apache2.0: is no licence that the hub knows (did you mean 'apache-2.0'?)"),
    (("--card", "none.md", *LICENCE), "--card none.md names its own licence: leave out --licence"),
    (("--card", "none.md"), "none.md: can't be read: No such file or directory"),
    (("--card", "bare.md"), "bare.md: names no licence: its head needs a line such as `license: apache-2.0`"),
    (("--card", "headless.md"), "headless.md: names no licence"),
    (("--card", "broken.md"), "broken.md: its head is not YAML: "),
])  # fmt: skip
def test_card_without_a_licence_is_refused(flags, words, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bare.md").write_text("---\nlibrary_name: stmn\n---\n# mine\n")
    Path("headless.md").write_text("# mine\n")
    Path("broken.md").write_text("---\nlicense: [\n---\n")
    refused = call("push", "motion", "ada/m", *flags, "-w", trained.root, "--dry-run", "made")
    assert refused.exit_code in (1, 2) and errors_of(refused)[0].startswith(words), refused.stderr
    assert len(errors_of(refused)) == 1 and not Path("made").exists()


def test_other_licence_needs_a_link(trained, tmp_path):
    flags = ("--licence", "Lab terms", "--licence-link", "https://example.org/terms")
    made = call("push", "motion", "ada/m", *flags, "-w", trained.root, "--dry-run", tmp_path / "made")
    assert made.exit_code == 0, made.stderr
    head = ModelCard((tmp_path / "made" / "README.md").read_text()).data
    assert (head.license, head.license_name, head.license_link) == ("other", "Lab terms", "https://example.org/terms")


def test_card_of_a_person_is_sent_as_it_is(written, trained, tmp_path):
    own = tmp_path / "mine.md"
    own.write_text((written / "README.md").read_text() + "\nA line of mine.\n")
    push = ["push", "fused", "ada/gates", "--card", own, "-w", trained.root, "--dry-run", tmp_path / "made"]
    assert call(*push).exit_code == 0
    assert (tmp_path / "made" / "README.md").read_bytes() == own.read_bytes()
    assert errors_of(call(*push)) == [f"{tmp_path / 'made' / 'model.safetensors'}: already exists; use --force to "
                                      "overwrite it"]  # fmt: skip
    assert call(*push, "--force").exit_code == 0


def test_model_alone_has_a_card_that_says_so(trained, tmp_path):
    """A file that has left its workspace, with class names that Markdown would read otherwise."""
    network, description = load_checkpoint(model_of(trained, "motion"))
    names = ["a|b", "<b>x</b>", "# c", "[d](e)"]
    changed = description.network.model_copy(update={"classes": names})
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "m.safetensors"
    save_checkpoint(path, network, type(description)(**(vars(description) | {"network": changed})))
    made = call("push", path, "ada/m", *LICENCE, "-w", tmp_path / "elsewhere", "--dry-run", tmp_path / "made")
    assert made.exit_code == 0 and "no record of a run beside it" in made.stderr
    assert sorted(p.name for p in (tmp_path / "made").iterdir()) == ["README.md", "model.safetensors"]
    card = (tmp_path / "made" / "README.md").read_text()
    assert "**It has not been tested**" in card and "its recipe is not known" in card
    assert "- Anything: no evaluation of it on test videos is on record." in section(card, "Not tested")
    assert section(card, "Classes").splitlines() == ["- a\\|b", "- \\<b\\>x\\</b\\>", "- \\# c", "- \\[d\\](e)"]


def test_run_whose_streams_are_gone_has_no_recipe(own, tmp_path):
    for run in own.runs():
        if run.record["options"].get("modality") == "flow":
            (run.path / "run.json").unlink()
    made = call("push", "fused", "ada/m", *LICENCE, "-w", own.root, "--dry-run", tmp_path / "made")
    assert made.exit_code == 0 and not (tmp_path / "made" / "recipe.toml").exists()
    assert (
        "recipe.toml is left out: " in made.stderr and "what it read as motion is not in this workspace" in made.stderr
    )
    assert "its recipe is not known" in (tmp_path / "made" / "README.md").read_text()
