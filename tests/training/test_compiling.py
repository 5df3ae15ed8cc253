"""`--compile`: what is compiled, how often, and that graphs may use their memory again."""

from collections.abc import Callable, Sequence

import pytest
import torch
from helpers.trainings import CPU, network, steps, videos, weights
from torch import Tensor
from torch._dynamo import register_backend
from torch._dynamo.backends.common import aot_autograd
from torch.fx import GraphModule

from stmn.runtime.progress import Silent
from stmn.training.learner import Learner
from stmn.training.loop import train
from stmn.training.plan import Plan
from stmn.workspace import Workspace

#: the graphs that `counted` was given
GRAPHS: list[GraphModule] = []


@register_backend
def counted(graph: GraphModule, inputs: Sequence[Tensor]) -> Callable:
    """Runs a graph as it is."""
    GRAPHS.append(graph)
    return graph.forward


def give_in_same_memory(graph: GraphModule, inputs: Sequence[Tensor]) -> Callable:
    """Runs a graph as CUDA replays it: its results are in the memory of the results before."""
    memory: list[Tensor] = []

    def run(values: list) -> list:
        found = graph(*values)
        values.clear()
        if not memory:
            memory.extend(x.clone() if isinstance(x, Tensor) else x for x in found)
        for kept, x in zip(memory, found, strict=True):
            if isinstance(x, Tensor):
                kept.copy_(x)
        return [kept.detach() if isinstance(kept, Tensor) else kept for kept in memory]

    run._boxed_call = True  # takes its inputs as one list
    return run


register_backend(aot_autograd(fw_compiler=give_in_same_memory, bw_compiler=give_in_same_memory), name="replayed")


def learned(prepared: Workspace, folder, plan: Plan, fused: bool = False) -> tuple[dict[str, Tensor], list[dict]]:
    """The state after training with dropout, and the rows of the log."""
    torch.manual_seed(0)
    net = network(0.5, fused)
    clips = videos(prepared, chunks=2, modalities=("rgb", "flow") if fused else ("flow",))
    state = train(net, clips, None, plan, CPU, folder, Silent())
    return weights(net), state.history


@pytest.mark.parametrize("fused", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_each_size_of_micro_batch_is_one_graph(prepared, tmp_path, fused):
    """Micro-batches of 4 and 2 videos in groups of 2; later steps compile nothing, nor do batch statistics."""
    GRAPHS.clear()
    learned(prepared, tmp_path, steps(3, batch=6, micro_batch=4, bn_group=2, compile="counted"), fused)
    assert len(GRAPHS) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*mode")  # which only inductor has
def test_graphs_may_use_their_memory_again(prepared, tmp_path):
    """Gradients of several micro-batches add up all the same, and what is logged of the first one stays."""
    plan = {"batch": 8, "micro_batch": 4, "rate": 1e-3, "bn_passes": 0, "log_every": 1}
    exact, rows = learned(prepared, tmp_path / "exact", steps(4, **plan))
    graphs = steps(4, compile="replayed", compile_mode="reduce-overhead", **plan)
    found, found_rows = learned(prepared, tmp_path / "found", graphs)
    for name, value in exact.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-5)
    for name in ("loss", "accuracy"):
        assert [row[name] for row in found_rows] == pytest.approx([row[name] for row in rows], rel=1e-4)

    wrong, _ = learned(prepared, tmp_path / "wrong", steps(4, compile="replayed", **plan))  # as if there were no graphs
    name = "streams.motion.backbone.layer1.0.bn2.weight"
    assert (wrong[name] - exact[name]).abs().max() > 0.1 * exact[name].abs().max()


@pytest.mark.parametrize("fails", [False, True])
def test_compiled_code_leaves_with_its_training(prepared, tmp_path, monkeypatch, fails):
    """Even with one that fails: the next training in the same process has the memory."""

    def fail(*_: object) -> tuple[Tensor, Tensor]:
        raise RuntimeError("out of memory")

    resets: list[bool] = []
    reset = torch.compiler.reset
    monkeypatch.setattr(torch.compiler, "reset", lambda: resets.append(True) or reset())
    if fails:
        monkeypatch.setattr(Learner, "forward", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            learned(prepared, tmp_path, steps(1, compile="counted"))
    else:
        learned(prepared, tmp_path, steps(1, compile="counted"))
    assert resets == [True]
