"""Surgery on graphs: the only file that changes one. Everything else asks for what it wants by name."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

from torch import fx, nn

from pytest_ptq.errors import VerificationError


class StageModule(fx.GraphModule):
    """A model between two stages. It prints as its layers, under the user's own module paths."""

    stage = "captured"

    def __str__(self) -> str:
        return nn.Module.__repr__(self)

    __repr__ = __str__

    def _get_name(self) -> str:
        return f"{self.stage.capitalize()}Module"

    def __deepcopy__(self, memo: dict[int, Any]) -> StageModule:
        # torch.fx copies layers and graph; what a stage knows beside them never changes, and is shared.
        twin: StageModule = super().__deepcopy__(memo)  # type: ignore[assignment]
        twin.__dict__.update({name: self.__dict__[name] for name in STAGE_FIELDS if name in self.__dict__})
        return twin


STAGE_FIELDS = ("plan", "qconfig", "stored", "made", "notes", "_fused")
"""What stages know beside their layers."""


def is_reserved(name: str) -> bool:
    """Whether a layer at the top of a stage cannot be called so, because the stage itself has that attribute."""
    return hasattr(StageModule, name) or name in (*STAGE_FIELDS, "fused", "observers")


S = TypeVar("S", bound=StageModule)


def stage_copy(module: fx.GraphModule, kind: type[S]) -> S:
    """A new graph module whose layers share the old one's tensors: changing the one leaves the other as it was."""
    graph = fx.Graph()
    output = graph.graph_copy(module.graph, val_map={})
    graph.output(output)
    twins: dict[str, Any] = {}
    for node in graph.nodes:
        if node.op == "call_module":
            twins[str(node.target)] = _twin(module.get_submodule(str(node.target)))
        elif node.op == "get_attr":
            owner, _, name = str(node.target).rpartition(".")
            twins[str(node.target)] = getattr(module.get_submodule(owner), name)
    return kind(twins, graph)


def _twin(layer: nn.Module) -> nn.Module:
    twin = copy.copy(layer)
    for table in ("_modules", "_buffers", "_parameters"):
        twin.__dict__[table] = dict(layer.__dict__[table])
    return twin


def layer_of(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The layer a node calls, or None when it calls no module."""
    return module.get_submodule(str(node.target)) if node.op == "call_module" else None


def call_nodes(module: fx.GraphModule) -> Iterator[fx.Node]:
    """Nodes that compute something, in order."""
    for node in list(module.graph.nodes):
        if node.op in ("call_module", "call_function", "call_method"):
            yield node


def unique_path(module: fx.GraphModule, path: str) -> str:
    """`path`, or `path#2`, `path#3` when a layer already stands there: a layer called twice gets two names."""
    taken = {name for name, _ in module.named_modules()}
    candidate, n = path, 1
    while candidate in taken:
        n += 1
        candidate = f"{path}#{n}"
    return candidate


def put_layer(module: fx.GraphModule, path: str, layer: nn.Module) -> None:
    """Place a layer at a path, replacing what stood there."""
    parent, _, name = path.rpartition(".")
    if parent and not _has(module, parent):
        module.add_submodule(parent, nn.Module())
    module.get_submodule(parent).add_module(name, layer)


def own_layer(module: fx.GraphModule, node: fx.Node, path: str) -> nn.Module:
    """Give a node a layer of its own at `path`, which shares its tensors with the one that it called."""
    twin = _twin(module.get_submodule(str(node.target)))
    put_layer(module, path, twin)
    node.target = path
    return twin


def _has(module: nn.Module, path: str) -> bool:
    return any(name == path for name, _ in module.named_modules())


def replace_chain(
    module: fx.GraphModule, chain: list[fx.Node], path: str, layer: nn.Module, args: tuple[Any, ...]
) -> fx.Node:
    """Put one call of `layer` in the place of `chain`, whose last node's users then read the new one."""
    put_layer(module, path, layer)
    last = chain[-1]
    with module.graph.inserting_before(last):
        new = module.graph.call_module(path, args)
    new.meta = dict(chain[0].meta)
    last.replace_all_uses_with(new)
    for node in reversed(chain):
        module.graph.erase_node(node)
    return new


def insert_after(module: fx.GraphModule, node: fx.Node, path: str, layer: nn.Module) -> fx.Node:
    """Call `layer` on a node's value; every user of the value then reads the result."""
    put_layer(module, path, layer)
    with module.graph.inserting_after(node):
        new = module.graph.call_module(path, (node,))
    node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    return new


def insert_between(module: fx.GraphModule, node: fx.Node, users: list[fx.Node], path: str, layer: nn.Module) -> fx.Node:
    """Call `layer` on a node's value; only `users` then read the result."""
    put_layer(module, path, layer)
    with module.graph.inserting_after(node):
        new = module.graph.call_module(path, (node,))
    for user in users:
        user.replace_input_with(node, new)
    return new


def remove_identity(module: fx.GraphModule, node: fx.Node) -> None:
    """Drop a node that returns its first argument unchanged."""
    node.replace_all_uses_with(node.all_input_nodes[0])
    module.graph.erase_node(node)


def finish(module: StageModule) -> StageModule:
    """Check and compile a changed graph, and drop layers that nothing calls any more."""
    try:
        module.graph.lint()
    except RuntimeError as error:
        raise VerificationError(f"the graph is not well formed: {error}", place=module.stage) from error
    module.delete_all_unused_submodules()
    _order_layers(module)
    module.recompile()
    module.eval()
    return module


def _order_layers(module: StageModule) -> None:
    """Layers in the order in which data meets them: torch.fx sorts them by the depth of their path."""
    order: dict[str, int] = {}
    for node in module.graph.nodes:
        if node.op == "call_module":
            parts = str(node.target).split(".")
            for depth in range(1, len(parts) + 1):
                order.setdefault(".".join(parts[:depth]), len(order))
    for path, parent in module.named_modules():
        prefix = f"{path}." if path else ""
        children = sorted(parent._modules.items(), key=lambda item: order.get(f"{prefix}{item[0]}", len(order)))
        parent._modules = dict(children)
