"""How many cores a container may use, and what uses them."""

import math
from pathlib import Path

import pytest
import torch

from stmn.runtime.cores import count_cores, read_quota
from stmn.runtime.device import Device, choose_device


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


@pytest.mark.parametrize(("place", "quota"), [("/", 4.0), ("/job", 2.0), ("/job/step", 2.0), ("/../outside", 4.0)])
def test_smallest_quota_of_all_groups_above_counts(place, quota, tmp_path):
    group(tmp_path / "g", cpu__max="400000 100000")
    group(tmp_path / "g" / "job", cpu__max="200000 100000")
    group(tmp_path / "g" / "job" / "step", cpu__max="max 100000")
    (tmp_path / "own").write_text(f"0::{place}\n")
    assert read_quota(tmp_path / "g", tmp_path / "own") == quota


def test_groups_of_version_1(tmp_path):
    group(tmp_path / "cpu,cpuacct" / "docker", cpu__cfs_quota_us="150000", cpu__cfs_period_us="100000")
    group(tmp_path / "cpu,cpuacct", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    (tmp_path / "own").write_text("5:cpu,cpuacct:/docker\n4:memory:/docker\n")
    assert read_quota(tmp_path, tmp_path / "own") == 1.5


def test_without_groups_there_is_no_quota(tmp_path):
    assert read_quota(tmp_path, tmp_path / "none") == math.inf
    (tmp_path / "own").write_text("0::/a\n")
    group(tmp_path / "a", cpu__max="nonsense")
    assert read_quota(tmp_path, tmp_path / "own") == math.inf
    assert count_cores() >= 1


@pytest.mark.parametrize(("cores", "processes", "threads"), [(4, 1, 4), (64, 1, 16), (64, 8, 8), (4, 8, 1)])
def test_processes_of_torchrun_share_the_cores_of_their_machine(monkeypatch, cores, processes, threads):
    """On a GPU, whose loaders have a thread per core, at most 16; `--loader-threads` decides otherwise."""
    more = {"RANK": 0, "WORLD_SIZE": 2 * processes, "LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "x", "MASTER_PORT": 1}
    if processes > 1:
        for name, value in more.items():
            monkeypatch.setenv(name, str(value))
    monkeypatch.setattr("stmn.runtime.cores.count_cores", lambda: cores)
    assert Device(torch.device("cuda")).loader_threads == threads
    assert Device(torch.device("cuda"), threads=3).loader_threads == 3
    assert choose_device("cpu").loader_threads == 1
