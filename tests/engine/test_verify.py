"""The grammar: every rule fails on a graph that was broken by hand."""

from __future__ import annotations

import pytest
from torch import fx, nn

from engine.nets import Net, conv, images, partly_fp32_net, residual_net
from pytest_ptq import engine
from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.capture import capture
from pytest_ptq.engine.graph import StageModule, finish, insert_after, put_layer
from pytest_ptq.engine.modules import DeQuantize, Quantize
from pytest_ptq.engine.observers import MinMaxObserver
from pytest_ptq.engine.verify import count_detours, verify_converted, verify_fused, verify_observed
from pytest_ptq.errors import VerificationError

Q = QParams(0.1, 3)


def node(module: fx.GraphModule, target: str) -> fx.Node:
    return next(n for n in module.graph.nodes if str(n.target) == target)


def converted() -> StageModule:
    return engine.quantize(residual_net(), [images()])


def test_legal_graphs_pass() -> None:
    for model in (residual_net(), partly_fp32_net()):
        fused = engine.fuse(model)
        verify_fused(fused)
        prepared = engine.prepare(fused)
        verify_observed(prepared.observers().keys(), prepared.plan.observed.keys())
        engine.calibrate(prepared, [images()])
        verify_converted(engine.convert(prepared))


def test_a_layer_without_effect_is_left() -> None:
    fused = engine.fuse(residual_net())
    insert_after(fused, node(fused, "conv1"), "idle", nn.Identity())
    with pytest.raises(VerificationError, match=r"fused graph, idle: an operation without effect.*report it"):
        verify_fused(fused)


def test_a_batch_norm_is_not_folded() -> None:
    fused = engine.fuse(Net(lambda m, x: m.conv(x), conv=conv(3, 8)))
    insert_after(fused, node(fused, "conv"), "bn", nn.BatchNorm2d(8))
    with pytest.raises(VerificationError, match="fused graph, bn: a batch norm behind a convolution was not folded"):
        verify_fused(fused)


def test_a_batch_norm_that_cannot_be_folded_is_legal() -> None:
    verify_fused(capture(Net(lambda m, x: m.bn(x), bn=nn.BatchNorm2d(3))))


@pytest.mark.parametrize("excess", [True, False])
def test_observers_differ_from_the_plan(excess: bool) -> None:
    prepared = engine.prepare(residual_net())
    if excess:
        insert_after(prepared, node(prepared, "fc"), "extra", MinMaxObserver())
    else:
        put_layer(prepared, "conv1.observer", nn.Identity())
    with pytest.raises(VerificationError, match="observers and plan differ"):
        verify_observed(prepared.observers().keys(), prepared.plan.observed.keys())


def test_an_int8_layer_reads_fp32() -> None:
    module = converted()
    insert_after(module, node(module, "conv1"), "odd", DeQuantize(Q))
    with pytest.raises(VerificationError, match="converted graph, conv2: an int8 layer reads fp32"):
        verify_converted(module)


@pytest.mark.parametrize("layer", [nn.GELU(), Quantize(Q), nn.Conv2d(8, 8, 1)])
def test_an_fp32_layer_reads_integers(layer: nn.Module) -> None:
    module = converted()
    new = insert_after(module, node(module, "conv1"), "odd", layer)
    new.meta["layer"] = "odd"
    with pytest.raises(VerificationError, match="converted graph, odd: an fp32 layer reads integers"):
        verify_converted(module)


def test_an_fp32_function_reads_integers() -> None:
    import torch

    module = converted()
    source = node(module, "conv1")
    with module.graph.inserting_after(source):
        new = module.graph.call_function(torch.sigmoid, (source,))
    node(module, "conv2").replace_input_with(source, new)
    with pytest.raises(VerificationError, match="converted graph, sigmoid: an fp32 layer reads integers"):
        verify_converted(module)


def test_a_detour_through_fp32() -> None:
    module = converted()
    insert_after(module, node(module, "conv1"), "down", DeQuantize(Q))
    insert_after(module, node(module, "down"), "up", Quantize(Q))
    assert count_detours(module) == 1
    with pytest.raises(VerificationError, match="1 values pass from int8 to int8 through fp32"):
        verify_converted(module)


def test_a_graph_that_is_not_well_formed() -> None:
    module = converted()
    graph = module.graph
    with graph.inserting_before(next(iter(graph.nodes))):
        graph.call_module("conv1", (node(module, "conv1"),))
    with pytest.raises(VerificationError, match="converted: the graph is not well formed"):
        finish(module)
