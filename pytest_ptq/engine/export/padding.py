"""Zero padding before convolutions as the convolutions' own, which in ONNX may differ between the sides."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import fx

from pytest_ptq.engine.affine import QParams
from pytest_ptq.engine.export.layers import Rounded
from pytest_ptq.engine.export.placement import Placement
from pytest_ptq.engine.export.weighted import FloatConv
from pytest_ptq.engine.graph import StageModule, call_nodes, layer_of
from pytest_ptq.engine.modules import QuantizedPad


class FloatPad(Rounded):
    """Zeros around stored integers."""

    def __init__(self, pad: Sequence[int], x: QParams | None, how: Placement) -> None:
        super().__init__(lambda v: F.pad(v, list(pad)), x if how.rounds_moves else None, how)
        self.pad = list(pad)

    def around(self, dims: int) -> list[int] | None:
        """What stands before each of the last `dims` dimensions and behind each; None where it pads others, too."""
        pairs = [(self.pad[i], self.pad[i + 1]) for i in range(0, len(self.pad), 2)]
        pairs += [(0, 0)] * (dims - len(pairs))
        if any(pair != (0, 0) for pair in pairs[dims:]) or any(n < 0 for n in self.pad):
            return None
        inner = list(reversed(pairs[:dims]))
        return [before for before, _ in inner] + [behind for _, behind in inner]


def pad_twin(layer: QuantizedPad, x: QParams | None, how: Placement) -> FloatPad:
    return FloatPad(layer.pad, x, how)


def fold_padding(twin: StageModule) -> None:
    """Take padding that nothing but convolutions read into them, in place."""
    calls = [node.target for node in call_nodes(twin)]
    for node in call_nodes(twin):
        pad = layer_of(twin, node)
        if not isinstance(pad, FloatPad):
            continue
        readers = [(user, layer_of(twin, user)) for user in node.users]
        if all(_takes(pad, node, user, reader) and calls.count(user.target) == 1 for user, reader in readers):
            for _, reader in readers:
                assert isinstance(reader, FloatConv)
                around = pad.around(len(reader.stride)) or []
                reader.pads = [a + b for a, b in zip(reader.pads, around, strict=True)]
            node.replace_all_uses_with(node.all_input_nodes[0])
            twin.graph.erase_node(node)


def _takes(pad: FloatPad, node: fx.Node, user: fx.Node, reader: object) -> bool:
    if not isinstance(reader, FloatConv) or user.args[0] is not node or node in user.args[1:]:
        return False
    return pad.around(len(reader.stride)) is not None
