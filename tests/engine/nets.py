"""Small networks and ways to look at them, for the engine's tests."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from pytest_ptq.engine.graph import layer_of


class Net(nn.Module):
    """A module whose forward is given: Net(lambda m, x: m.conv(x), conv=nn.Conv2d(3, 8, 3))."""

    def __init__(self, compute: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.compute = compute
        for name, layer in layers.items():
            self.add_module(name, layer)
        randomize(self)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(self, x)


def randomize(model: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norms statistics as training would, and every parameter a reproducible value. Returns the model."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                for tensor, low, high in (
                    (module.weight, 0.5, 1.5), (module.bias, -0.3, 0.3),
                    (module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 1.5),
                ):  # fmt: skip
                    if tensor is not None:
                        tensor.uniform_(low, high, generator=generator)
            elif isinstance(module, (nn.Conv2d, nn.Linear)):
                fan_in = module.weight[0].numel()
                module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.uniform_(-0.2, 0.2, generator=generator)
    return model.eval()


def images(count: int = 2, size: int = 16, seed: int = 1, channels: int = 3) -> Tensor:
    """Reproducible noise (count, channels, size, size)."""
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(seed))


def conv(inputs: int, outputs: int, kernel: int = 3, **options: int | bool) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, **{"padding": kernel // 2, **options})


def residual_net() -> Net:
    """Two convolutions, a residual addition with ReLU, and a classifier."""

    def compute(m: Net, x: Tensor) -> Tensor:
        x = m.relu(m.bn1(m.conv1(x)))
        x = m.relu(m.bn2(m.conv2(x)) + x)
        return m.fc(torch.flatten(m.pool(x), 1))

    return Net(
        compute, conv1=conv(3, 8), bn1=nn.BatchNorm2d(8), conv2=conv(8, 8), bn2=nn.BatchNorm2d(8), relu=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1), fc=nn.Linear(8, 10),
    )  # fmt: skip


def partly_fp32_net() -> Net:
    """Layers that have int8 kernels, and layers that have none."""

    def compute(m: Net, x: Tensor) -> Tensor:
        x = m.conv2(m.odd(m.conv1(x)))
        x = torch.erf(m.norm(x)) * 2.0
        x = F.avg_pool2d(m.conv3(x), 2)
        return m.fc(x.view(x.size(0), -1))

    return Net(
        compute, conv1=conv(3, 8), odd=nn.LogSigmoid(), conv2=conv(8, 8), norm=nn.LayerNorm(16), conv3=conv(8, 4),
        fc=nn.Linear(4 * 8 * 8, 10),
    )  # fmt: skip


def layers(module: fx.GraphModule) -> list[str]:
    """Class and path of every layer that a graph calls, in order."""
    return [f"{layer._get_name()} {node.target}" for node in module.graph.nodes if (layer := layer_of(module, node))]


def layer_names(module: fx.GraphModule) -> list[str]:
    """The layer that each computing node says it is."""
    return [n.meta["layer"] for n in module.graph.nodes if n.op in ("call_module", "call_function", "call_method")]


def sqnr(reference: Tensor, other: Tensor) -> float:
    """Signal over error, in dB."""
    noise = (reference.double() - other.double()).square().sum().clamp_min(1e-300)
    return float(10 * torch.log10(reference.double().square().sum() / noise))


def run(module: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        y: Tensor = module(x)
    return y
