"""Surgery on graphs: the only file that changes one. Everything else asks for what it wants by name."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, TypeVar

from torch import Tensor, fx, nn

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
    made = open_copy(module, kind)
    made.recompile()
    return made


def open_copy(module: fx.GraphModule, kind: type[S]) -> S:
    """A `stage_copy` whose graph is going to be changed: it is not compiled, and runs after `finish`."""
    made = kind({}, fx.Graph())
    made.graph.output(made.graph.graph_copy(module.graph, val_map={}))
    targets = {str(node.target): node.op for node in made.graph.nodes if node.op in ("call_module", "get_attr")}
    for target in sorted(targets, key=lambda t: t.count(".")):  # a layer comes before what stands within it
        owner, _, name = target.rpartition(".")
        found = getattr(module.get_submodule(owner), name)
        if targets[target] == "call_module":
            put_layer(made, target, _twin(found))
        else:
            _put_value(made, owner, name, found)
    return made


def _put_value(module: fx.GraphModule, path: str, name: str, value: object) -> None:
    """Place what a graph reads with get_attr, beside or within the layers."""
    owner = _made(module, path)
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        owner.register_buffer(name, value)
    else:
        setattr(owner, name, value)


def _twin(layer: nn.Module) -> nn.Module:
    twin = copy.copy(layer)
    for table in ("_modules", "_buffers", "_parameters"):
        twin.__dict__[table] = dict(layer.__dict__[table])
    return twin


def layer_of(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The layer a node calls, or None when it calls no module."""
    return _at(module, str(node.target)) if node.op == "call_module" else None


def _at(module: nn.Module, path: str) -> nn.Module | None:
    """The layer that stands at a path, if any."""
    found: nn.Module | None = module
    for name in path.split(".") if path else ():
        found = found._modules.get(name) if found is not None else None
    return found


def call_nodes(module: fx.GraphModule) -> Iterator[fx.Node]:
    """Nodes that compute something, in order."""
    for node in list(module.graph.nodes):
        if node.op in ("call_module", "call_function", "call_method"):
            yield node


def unique_path(module: fx.GraphModule, path: str) -> str:
    """`path`, or `path#2`, `path#3` when a layer already stands there: a layer called twice gets two names."""
    candidate, n = path, 1
    while _at(module, candidate) is not None:
        n += 1
        candidate = f"{path}#{n}"
    return candidate


def put_layer(module: fx.GraphModule, path: str, layer: nn.Module) -> None:
    """Place a layer at a path, replacing what stood there."""
    parent, _, name = path.rpartition(".")
    _made(module, parent).add_module(name, layer)


def _made(module: fx.GraphModule, path: str) -> nn.Module:
    """The layer at a path, where an empty one is put if there is none."""
    found = _at(module, path)
    if found is None:
        module.add_submodule(path, found := nn.Module())
    return found


def own_layer(module: fx.GraphModule, node: fx.Node, path: str) -> nn.Module:
    """Give a node a layer of its own at `path`, which shares its tensors with the one that it called."""
    twin = _twin(module.get_submodule(str(node.target)))
    put_layer(module, path, twin)
    node.target = path
    return twin


def replace_chain(
    module: fx.GraphModule, chain: list[fx.Node], path: str, layer: nn.Module, args: tuple[Any, ...]
) -> fx.Node:
    """Put one call of `layer` in the place of `chain`, whose last node's users then read the new one."""
    put_layer(module, path, layer)
    last = chain[-1]
    with module.graph.inserting_before(last):
        new = module.graph.create_node("call_module", path, args)
    new.meta = dict(chain[0].meta)
    last.replace_all_uses_with(new)
    for node in reversed(chain):
        module.graph.erase_node(node)
    return new


def insert_after(module: fx.GraphModule, node: fx.Node, path: str, layer: nn.Module) -> fx.Node:
    """Call `layer` on a node's value; every user of the value then reads the result."""
    put_layer(module, path, layer)
    with module.graph.inserting_after(node):
        new = module.graph.create_node("call_module", path, (node,))
    node.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    return new


def insert_between(module: fx.GraphModule, node: fx.Node, users: list[fx.Node], path: str, layer: nn.Module) -> fx.Node:
    """Call `layer` on a node's value; only `users` then read the result."""
    put_layer(module, path, layer)
    with module.graph.inserting_after(node):
        new = module.graph.create_node("call_module", path, (node,))
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
