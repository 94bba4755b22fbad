"""Capture: the user's model stays as it was, and what cannot be captured is explained."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.nets import Net, conv, images, layer_names, partly_fp32_net, residual_net, run, sqnr
from pytest_ptq import engine
from pytest_ptq.engine.capture import capture
from pytest_ptq.errors import CaptureError, WeightsError


def test_the_model_is_untouched() -> None:
    """Objects, values, flags and hooks: whoever hands over a model goes on using it."""
    model = residual_net()
    model.relu.inplace = True
    model.conv1.register_forward_hook(lambda module, inputs, output: None)
    for parameter in model.fc.parameters():
        parameter.requires_grad_(False)
    objects = {name: id(value) for name, value in (*model.named_modules(), *model.named_parameters())}
    values = copy.deepcopy(model.state_dict())
    addresses = {name: value.data_ptr() for name, value in model.state_dict().items()}
    described, hooks = str(model), dict(model.conv1._forward_hooks)
    flags = {name: (p.requires_grad, p.grad) for name, p in model.named_parameters()}
    x = images()
    before, x_before = run(model, x), x.clone()

    with pytest.warns(UserWarning, match="forward hooks"):
        quantized = engine.quantize(model, [x], "x86")
    with pytest.warns(UserWarning, match="forward hooks"):
        frozen = engine.freeze(model)
    run(quantized, x)
    run(frozen, x)

    assert {name: id(value) for name, value in (*model.named_modules(), *model.named_parameters())} == objects
    assert {name: value.data_ptr() for name, value in model.state_dict().items()} == addresses
    assert all(torch.equal(value, values[name]) for name, value in model.state_dict().items())
    assert str(model) == described
    assert dict(model.conv1._forward_hooks) == hooks
    assert {name: (p.requires_grad, p.grad) for name, p in model.named_parameters()} == flags
    assert not any(module.training for module in model.modules())
    assert torch.equal(x, x_before)
    assert torch.equal(run(model, x), before)


def test_what_is_done_to_a_model_later_does_not_reach_the_int8_one() -> None:
    model, x = residual_net(), images()
    quantized = engine.quantize(model, [x], "x86")
    before = run(quantized, x)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(run(quantized, x), before)


@pytest.mark.parametrize("path", ["", "bn1"])
def test_training_mode_is_refused(path: str) -> None:
    model = residual_net()
    model.get_submodule(path).train()
    with pytest.raises(CaptureError, match=r"training mode .*model\.eval\(\)"):
        engine.quantize(model, [images()])


@pytest.mark.parametrize("name", ["conv2.weight", "fc.bias", "bn1.running_var"])
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_name_their_layer(name: str, bad: float) -> None:
    model = residual_net()
    model.state_dict()[name].view(-1)[0] = bad
    with pytest.raises(WeightsError, match=f"weights: {name}: the weight holds NaN or Inf"):
        engine.prepare(model)


def _branch_on_value(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    if y.sum() > 0:  # this line
        return y
    return -y


def _branch_on_size(m: Net, x: Tensor) -> Tensor:
    return m.conv(x) if x.shape[0] > 1 else x  # this line


def _loop(m: Net, x: Tensor) -> Tensor:
    for row in m.conv(x):  # this line
        x = x + row
    return x


def _assigns(m: Net, x: Tensor) -> Tensor:
    x[:, 0] = 0  # this line
    return m.conv(x)


def _raises(m: Net, x: Tensor) -> Tensor:
    raise ValueError("not today")  # this line


@pytest.mark.parametrize("compute", [_branch_on_value, _branch_on_size, _loop, _assigns, _raises])
def test_control_flow_is_refused_with_file_and_line(compute: object) -> None:
    from pathlib import Path

    source = Path(__file__).read_text(encoding="utf-8").splitlines()
    start = next(i for i, text in enumerate(source) if text.startswith(f"def {compute.__name__}"))  # type: ignore[attr-defined]
    line = next(i for i, text in enumerate(source[start:], start + 1) if text.endswith("# this line"))
    with pytest.raises(CaptureError) as caught:
        capture(Net(compute, conv=conv(3, 3)))  # type: ignore[arg-type]
    assert f"{__file__}:{line} " in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.place == "Net"
    assert "torch.fx.wrap" in str(caught.value)


def test_a_model_that_cannot_be_copied_is_refused() -> None:
    class Stubborn(nn.Conv2d):
        def __deepcopy__(self, memo: object) -> None:
            raise RuntimeError("no second one")

    with pytest.raises(CaptureError, match=r"cannot be copied \(RuntimeError: no second one\)"):
        capture(Stubborn(3, 8, 3).eval())


def test_layers_carry_the_users_own_paths() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.act = conv(8, 8), nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.act(F.max_pool2d(self.conv(x) + x, 2) * 2)

    model = nn.Sequential(conv(3, 8), nn.Sequential(Block(), Block())).eval()
    assert layer_names(capture(model)) == [
        "0",
        "1.0.conv", "1.0.add", "1.0.max_pool2d", "1.0.mul", "1.0.act",
        "1.1.conv", "1.1.add", "1.1.max_pool2d", "1.1.mul", "1.1.act",
    ]  # fmt: skip


def test_torchvision_layers_keep_their_paths() -> None:
    from torchvision.models import mobilenet_v2

    quantized = engine.quantize(mobilenet_v2(num_classes=4).eval(), [images(1, 32)], "minmax")
    paths = {name for name, _ in quantized.named_modules()}
    assert {"features.0.0", "features.1.conv.0.0", "features.1.conv.1", "features.3.conv.2", "classifier.1"} <= paths


def test_operations_of_one_name_are_numbered() -> None:
    model = Net(lambda m, x: m.conv(m.conv(x) + x) + x, conv=conv(3, 3))
    assert layer_names(capture(model)) == ["conv", "add", "conv#2", "add#2"]


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_size_runs(batch: int) -> None:
    model = partly_fp32_net()
    quantized = engine.quantize(model, [images(3)])
    assert run(quantized, images(batch)).shape == (batch, 10)
    assert run(engine.freeze(model), images(batch)).shape == (batch, 10)


@pytest.mark.parametrize("name", ["plan", "graph", "fused", "code", "observers"])
def test_a_layer_of_a_name_that_a_graph_needs_gets_another(name: str) -> None:
    inner = nn.Sequential(conv(3, 3), nn.Sequential(conv(3, 3), nn.Hardswish()))
    model, x = nn.Sequential(OrderedDict({name: inner, f"{name}_": conv(3, 4)})).eval(), images()
    assert layer_names(capture(model)) == [f"{name}__.0", f"{name}__.1.0", f"{name}__.1.1", f"{name}_"]
    assert sqnr(run(model, x), run(engine.quantize(model, [x]), x)) > 20
    assert list(dict(model.named_children())) == [name, f"{name}_"]


def test_a_parameter_of_such_a_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.graph, self.conv = nn.Parameter(torch.ones(1)), conv(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x) + self.graph

    model, x = Named().eval(), images()
    torch.testing.assert_close(run(capture(model), x), run(model, x))


def test_hooks_stay_with_the_users_model() -> None:
    model, seen = residual_net(), []
    model.conv1.register_forward_hook(lambda module, inputs, output: seen.append(output))
    model.fc.register_forward_pre_hook(lambda module, inputs: seen.append(inputs))
    with pytest.warns(UserWarning, match=r"2 forward hooks \(the first: conv1\) are no part of the graph"):
        quantized = engine.quantize(model, [images()])
    run(quantized, images())
    assert seen == []
    run(model, images())
    assert len(seen) == 2


def test_weight_norm_leaves_its_weight() -> None:
    with pytest.warns(FutureWarning, match="weight_norm"):
        layer = nn.utils.weight_norm(conv(3, 4))
    model, x = nn.Sequential(layer).eval(), images()
    assert sqnr(run(model, x), run(engine.quantize(model, [x]), x)) > 25


@pytest.mark.parametrize("star", ["*", "**"])
def test_an_open_signature_is_refused(star: str) -> None:
    class Args(nn.Module):
        def forward(self, *args: Tensor) -> Tensor:
            return args[0]

    class KeywordArgs(nn.Module):
        def forward(self, **args: Tensor) -> Tensor:
            return args["x"]

    with pytest.raises(CaptureError, match=r"forward takes \*+\w+, .*Give forward a named parameter"):
        capture((Args if star == "*" else KeywordArgs)().eval())


def test_parameters_with_a_default_keep_it() -> None:
    class Optional(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = conv(3, 4)

        def forward(self, x: Tensor, mask: Tensor | None = None, doubled: bool = False) -> Tensor:
            x = self.conv(x)
            if mask is not None:
                x = x * mask
            return x + x if doubled else x

    model, x = Optional().eval(), images()
    assert sqnr(run(model, x), run(engine.quantize(model, [x]), x)) > 25
    with pytest.raises(TypeError, match="positional argument"):
        engine.quantize(model, [x])(x, x)


@pytest.mark.parametrize(
    "cast",
    [lambda x: x.float(), lambda x: x.to(torch.float32), lambda x: x.type(torch.float32), lambda x: x.double().float()],
)
def test_operations_called_like_methods_of_a_module(cast: Callable[[Tensor], Tensor]) -> None:
    model, x = Net(lambda m, x: m.b(cast(m.a(x))), a=conv(3, 4), b=conv(4, 4)), images()
    assert sqnr(run(model, x), run(engine.quantize(model, [x]), x)) > 25


def test_a_model_of_one_layer() -> None:
    for layer, x in ((nn.Linear(8, 4), torch.randn(2, 8)), (conv(3, 4), images())):
        assert layer_names(capture(layer.eval())) == ["0"]
        assert sqnr(run(layer, x), run(engine.quantize(layer, [x]), x)) > 25
