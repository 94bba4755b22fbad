"""Multiply-accumulates and parameters, in int8 and in all, counted by hand."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from engine.nets import Net, conv, images, partly_fp32_net, residual_net
from pytest_ptq import engine
from pytest_ptq.engine.inspect import (
    Coverage,
    count_macs,
    coverage,
)
from pytest_ptq.qconfig import X86, QConfig


def covered(model: nn.Module, x: Tensor, qconfig: QConfig = X86) -> Coverage:
    fused = engine.fuse(model)
    return coverage(fused, engine.quantize(model, [x], qconfig), x)


def test_coverage_by_hand() -> None:
    """16 x 16 outputs of 3 x 3 kernels: 3 -> 8 and 8 -> 8 channels, then 8 -> 10."""
    first, second, last = 16 * 16 * 8 * 3 * 9, 16 * 16 * 8 * 8 * 9, 8 * 10
    found = covered(residual_net(), images(1))
    assert found == Coverage(first + second + last, first + second + last, 0, (), 0)
    found = covered(residual_net(), images(1), replace(X86, fp32_layers=("conv2",)))
    assert (found.int8_macs, found.total_macs) == (first + last, first + second + last)
    assert found.fp32_parameters == 8 * 8 * 9 + 8
    assert found.fp32_layers == (
        ("conv2", "kept in fp32 by qconfig x86"),
        ("pool", "reads fp32 from conv2"),
        ("flatten", "reads fp32 from pool"),
    )


def test_a_batch_counts_every_image() -> None:
    assert covered(residual_net(), images(3)).total_macs == 3 * covered(residual_net(), images(1)).total_macs


def test_groups_strides_and_dilation() -> None:
    model = Net(lambda m, x: m.conv(x), conv=nn.Conv2d(4, 8, (3, 5), stride=2, groups=2, dilation=1))
    assert covered(model, images(1, 16, channels=4)).total_macs == 7 * 6 * 8 * 2 * 15


def test_what_runs_in_fp32_by_a_function_counts_too() -> None:
    """Coverage would claim everything, were only layers counted."""

    class Functional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.up = conv(3, 4), nn.ConvTranspose2d(4, 6, 2, stride=2, dilation=2)
            self.weight = nn.Parameter(torch.randn(5, 6))

        def forward(self, x: Tensor) -> Tensor:
            x = torch.matmul(self.weight, self.up(self.conv(x)).flatten(2))
            return torch.matmul(x, x.transpose(1, 2))

    found = covered(Functional().eval(), images(1, 8))
    in_int8, up, by_function, product = 64 * 4 * 3 * 9, 64 * 4 * 6 * 4, 289 * 5 * 6, 5 * 289 * 5
    assert (found.int8_macs, found.total_macs) == (in_int8, in_int8 + up + by_function + product)
    assert found.fp32_parameters == (4 * 6 * 4 + 6) + 5 * 6


def test_attention_is_counted() -> None:
    """Also where torch would run all of it in one operation."""
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    model = Net(lambda m, x: m.attention(y := m.embed(x), y, y)[0], embed=nn.Linear(8, 8), attention=attention)
    found = covered(model, torch.randn(2, 5, 8))
    embed, projections, products = 10 * 8 * 8, 4 * 10 * 8 * 8, 2 * 2 * 5 * 5 * 8
    assert (found.int8_macs, found.total_macs) == (embed + projections, embed + projections + products)
    assert torch.backends.mha.get_fastpath_enabled()


def test_a_shared_layer_counts_each_call_and_its_weights_once() -> None:
    model = Net(lambda m, x: m.last(m.shared(m.shared(x))), shared=conv(3, 3), last=conv(3, 4))
    found = covered(model, images(1), replace(X86, fp32_layers=("shared", "shared#2")))
    assert found.total_macs == 256 * (2 * 3 * 3 * 9 + 3 * 4 * 9)
    assert found.int8_macs == 256 * 3 * 4 * 9


def test_macs_by_node() -> None:
    macs = count_macs(engine.fuse(partly_fp32_net()), images(1))
    assert sorted(n for n in macs.values() if n) == sorted([256 * 8 * 27, 256 * 8 * 72, 256 * 4 * 72, 4 * 64 * 10])
