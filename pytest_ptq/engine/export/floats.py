"""The fair fp32: a fused model as plain layers, batch norms folded."""

from __future__ import annotations

from torch import fx

from pytest_ptq.engine.blocks import Conv3dBlock, ConvBlock
from pytest_ptq.engine.export.spelled import spell_out
from pytest_ptq.engine.export.twin import ExportableModule
from pytest_ptq.engine.fuse import FusedModule
from pytest_ptq.engine.graph import call_nodes, finish, layer_of, replace_chain, stage_copy
from pytest_ptq.engine.transposed import Interleave, Transposed


def float_twin(fused: FusedModule) -> ExportableModule:
    """A copy in which transposed convolutions are what they were: that runtimes have kernels for."""
    twin = stage_copy(fused, ExportableModule)
    for node in call_nodes(twin):
        _restore_transposed(twin, node)
    spell_out(twin)
    finish(twin)
    return twin


def _restore_transposed(twin: ExportableModule, node: fx.Node) -> None:
    interleave = layer_of(twin, node)
    if isinstance(interleave, Interleave):
        source = node.all_input_nodes[0]
        block = layer_of(twin, source)
        if isinstance(block, (ConvBlock, Conv3dBlock)) and block.ceilings is None and len(source.users) == 1:
            replace_chain(twin, [source, node], str(source.target), Transposed(block, interleave), source.args)
