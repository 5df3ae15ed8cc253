"""Models on the hub: `hf://user/name` wherever a model is named, against a hub on this machine."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.commands import call, errors_of
from helpers.films import film, moving
from helpers.hub_server import commit_id, serve_hub, use_hub
from helpers.predicting import lines, model_of

import stmn
from stmn import registry
from stmn.errors import DataError, UsageError
from stmn.runtime.hub import fetch_model
from stmn.workspace import Workspace


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with serve_hub(monkeypatch, tmp_path / "cache") as server:
        yield server


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    return film(tmp_path_factory.mktemp("videos") / "a.mkv", moving(20), "ffv1", "yuv444p")


def put(hub, trained, run: str, name: str) -> str:
    """Put a run's model file on the hub; returns the commit."""
    return hub.commit(name, model_safetensors=model_of(trained, run).read_bytes())


def test_pushed_model_is_loaded_and_predicts_the_same(hub, trained, video):
    pushed = call("push", "fused", "ada/gates", "--licence", "apache-2.0", "-w", trained.root)
    assert (pushed.exit_code, pushed.stdout.strip()) == (0, f"{hub.address}/ada/gates"), pushed.stderr
    assert sorted(hub.files("ada/gates")) == ["README.md", "model.safetensors", "recipe.toml"]
    assert not hub.private
    ours, theirs = stmn.load(model_of(trained, "fused")), stmn.load("hf://ada/gates")
    torch.testing.assert_close(ours.logits(video), theirs.logits(video), rtol=0, atol=0)
    [line] = lines("hf://ada/gates", video)
    assert line["video"] == str(video) and line == lines(model_of(trained, "fused"), video)[0]
    assert str(trained.root) not in fetch_model("hf://ada/gates").read_bytes().decode(errors="ignore")
    # the same again changes nothing
    again = call("push", "fused", "ada/gates", "--licence", "apache-2.0", "-w", trained.root)
    assert again.exit_code == 0, again.stderr
    assert all(files == hub.files("ada/gates") for files in hub.repositories["ada/gates"])


def test_private_repository_is_for_its_owner(hub, trained, monkeypatch, tmp_path):
    pushed = call("push", "motion", "ada/mine", "--licence", "mit", "--private", "-w", trained.root)
    assert pushed.exit_code == 0 and hub.private == {"ada/mine"}
    assert stmn.load("hf://ada/mine").network.names == ["motion"]
    use_hub(monkeypatch, hub.address, tmp_path / "another cache", token=None)
    with pytest.raises(UsageError, match=r"^hf://ada/mine: there is no such repository on the hub, or it is private"):
        stmn.load("hf://ada/mine")


def test_hub_names_stand_wherever_a_model_does(hub, own, tmp_path):
    """evaluate, export, fuse's streams and starting weights, nets, in flags and in recipes."""
    for run in ("appearance", "motion", "fused"):
        put(hub, own, run, f"ada/{run}")
    tested = call("evaluate", "hf://ada/fused", "-w", own.root, "--json")
    assert tested.exit_code == 0, tested.stderr
    record = json.loads(tested.stdout.splitlines()[-1])
    assert record["results"]["of"] == [f"hf://ada/fused@{commit_id('ada/fused', 0)}"]
    [ours] = [run for run in own.runs() if run.results.get("of") == [model_of(own, "fused").parent.name]]
    assert record["results"]["accuracy"] == ours.results["accuracy"]
    tiny = ["--steps", 1, "--batch", 8, "--micro-batch", 8, "--validation", 0, "--schedule", "cosine"]
    fused = call("fuse", "--appearance", "hf://ada/appearance", "--motion", "hf://ada/motion", "--chunks", 2, *tiny,
                 "-w", own.root)  # fmt: skip
    assert fused.exit_code == 0, fused.stderr
    small = ["--arch", "resnet18", "--width", 0.25, "--size", 32]
    start = call("train-stream", "--modality", "flow", "--weights", "hf://ada/fused", *small, *tiny, "-w", own.root)
    assert start.exit_code == 0, start.stderr
    assert "resnet18: starting from hf://ada/fused, its motion stream" in start.stderr
    shown = call("nets", "show", "hf://ada/fused", "-w", own.root)
    assert shown.exit_code == 0 and "gate" in shown.stdout
    recipe = tmp_path / "r.toml"
    recipe.write_text(
        '[recipe]\nname = "r"\n[[stage]]\nid = "m"\nuses = "train-stream"\nmodality = "flow"\narch = "resnet18"\n'
        'width = 0.25\nweights = "hf://ada/motion"\n[[stage]]\nid = "f"\nuses = "fuse"\n'
        'appearance = "hf://ada/appearance"\nmotion = "m"\n[[stage]]\nid = "t"\nuses = "evaluate"\nmodel = "f"\n'
    )
    valid = call("recipes", "validate", recipe)
    assert valid.exit_code == 2 and "size is 32 for appearance and 224 for motion" in valid.stderr
    scores = call("compare", "hf://ada/fused", "hf://ada/motion", "-w", own.root)
    assert errors_of(scores) == ["hf://ada/fused: is a model on the hub, and scores are needed here"]


def test_hub_names_are_exported_timed_and_give_features(hub, own, video, tmp_path, monkeypatch):
    put(hub, own, "fused", "ada/fused")
    exported = call("export", "hf://ada/fused", "--format", "safetensors", "-w", own.root, "--json")
    assert exported.exit_code == 0, exported.stderr
    assert (
        json.loads(exported.stdout.splitlines()[-1])["results"]["of"] == f"hf://ada/fused@{commit_id('ada/fused', 0)}"
    )
    for number, model in enumerate(("hf://ada/fused", model_of(own, "fused"))):
        done = call("features", model, video, "--chunks", 2, "--out", tmp_path / f"{number}.npz", "-w", own.root)
        assert done.exit_code == 0, done.stderr
    theirs, ours = (np.load(tmp_path / f"{number}.npz") for number in (0, 1))
    assert theirs[f"{video}/motion"].tolist() == ours[f"{video}/motion"].tolist()
    monkeypatch.setattr(registry, "plugins", lambda kind: ())  # other formats take a minute
    monkeypatch.delattr(torch, "compile")
    timed = call("benchmark", "hf://ada/fused", "-w", own.root, "--chunks", 1, "--videos", 4, "--json")
    assert timed.exit_code == 0, timed.stderr
    rows = {row["name"]: row for row in json.loads(timed.stdout)["runtimes"]}
    assert rows["eager"]["accuracy"] == rows["predict"]["accuracy"] is not None


def test_revision_names_an_older_model(hub, trained):
    first = put(hub, trained, "appearance", "ada/m")
    second = put(hub, trained, "motion", "ada/m")
    assert stmn.load(f"hf://ada/m@{first}").network.names == ["appearance"]
    assert stmn.load("hf://ada/m").network.names == stmn.load(f"hf://ada/m@{second}").network.names == ["motion"]
    assert stmn.load(Path("hf://ada/m@main")).network.names == ["motion"]


def test_no_connection_uses_the_copy_here(hub, trained, video, monkeypatch):
    put(hub, trained, "motion", "ada/m")
    before = lines("hf://ada/m", video)
    hub.shutdown(), hub.server_close(), fetch_model.cache_clear()
    offline = call("predict", "hf://ada/m", video, "--json")
    assert [json.loads(line) for line in offline.stdout.splitlines()] == before
    notices = [line for line in offline.stderr.splitlines() if "hub" in line]
    assert len(notices) == 1 and notices[0].startswith("hf://ada/m: the hub can't be reached (")
    [line] = errors_of(call("predict", "hf://ada/other", video))
    assert line.startswith("hf://ada/other: is not on this machine, and the hub can't be reached: ")
    # with HF_HUB_OFFLINE nobody expects a connection
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    fetch_model.cache_clear()
    assert not [line for line in call("predict", "hf://ada/m", video).stderr.splitlines() if "hub" in line]
    [line] = errors_of(call("push", "motion", "ada/m", "--licence", "mit", "-w", trained.root))
    assert line.startswith("hf://ada/m: can't be sent: ")


@pytest.mark.parametrize(("name", "words"), [
    ("hf://ada/none", "hf://ada/none: there is no such repository on the hub, or it is private: check the name, or "
     "log in with `hf auth login`"),
    ("hf://ada/m@v9", "hf://ada/m@v9: the repository has no branch, tag or commit 'v9'"),
    ("hf://ada/empty", "hf://ada/empty: has no model.safetensors, so it is no model of stmn"),
    ("hf://ada/gated", "hf://ada/gated: its owner decides who may have it: ask on its page, then log in"),
    ("hf://ada", "hf://ada: is no name on the hub; write hf://USER/NAME, or hf://USER/NAME@REVISION"),
    ("hf://ada/m@", "hf://ada/m@: is no name on the hub; write hf://USER/NAME, or hf://USER/NAME@REVISION"),
    ("hf://ada/../m", "hf://ada/../m: is no name on the hub; write hf://USER/NAME, or hf://USER/NAME@REVISION"),
    ("hf://ada/m@../x", "hf://ada/m@../x: is no name on the hub; write hf://USER/NAME, or hf://USER/NAME@REVISION"),
    ("hf://a\x1b[2J/m", "hf://a\\x1b[2J/m: is no name on the hub; write hf://USER/NAME, or hf://USER/NAME@REVISION"),
])  # fmt: skip
def test_name_that_is_not_there_is_one_line(name, words, hub, video):
    hub.commit("ada/m", model_safetensors=b"text")
    hub.commit("ada/empty", README_md=b"nothing")
    hub.commit("ada/gated", model_safetensors=b"text")
    hub.gated.add("ada/gated")
    refused = call("predict", name, video)
    assert (refused.exit_code, errors_of(refused)) == (2, [words])


def test_downloaded_file_is_checked_as_any_file(hub, trained, video):
    """Nothing of a repository is run; what is damaged, or no model, is refused."""
    content = bytearray(model_of(trained, "motion").read_bytes())
    content[-100] ^= 1
    hub.commit("ada/damaged", model_safetensors=bytes(content))
    hub.commit("ada/pickle", model_safetensors=b"cos\nsystem\n(S'touch ran'\ntR.", modeling_py=b"raise SystemExit")
    for name, words in (("damaged", "its tensors are not what was written"), ("pickle", "is damaged")):
        refused = call("predict", f"hf://ada/{name}", video)
        assert refused.exit_code == 1 and words in errors_of(refused)[0]
    assert not any(path.endswith(".py") for path in hub.asked)


def test_pushing_without_rights_says_to_log_in(hub, trained, monkeypatch, tmp_path):
    use_hub(monkeypatch, hub.address, tmp_path / "cache", token=None)
    refused = call("push", "motion", "ada/m", "--licence", "mit", "-w", trained.root)
    assert refused.exit_code == 2 and not hub.repositories
    [line] = errors_of(refused)
    assert line == "hf://ada/m: permission denied: log in with `hf auth login` as a user who may write there"


def test_hub_that_fails_is_one_line(hub, monkeypatch, tmp_path):
    monkeypatch.setattr("helpers.hub_server._Handler._read", lambda self: self._refuse(503, ""))
    with pytest.raises(DataError, match=r"^hf://ada/m: is not on this machine, and the hub can't be reached: .*503"):
        Workspace(tmp_path).find_model("hf://ada/m")
