"""What layers are called: names that a graph can write down, and for every node the name a person knows it by."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

from torch import fx, nn

from pytest_ptq.engine.graph import is_reserved
from pytest_ptq.engine.ops import find_op

_PLAIN = re.compile(r"[\w#\- ]+")
_Names = Mapping[int, Mapping[str, str]]


def rename_layers(copied: nn.Module, graph: fx.Graph) -> None:
    """Rename what cannot keep its name, in the model and in the graph that was traced of it.

    torch.fx writes a graph as Python source, in which quotes, backslashes and new lines of a name would be read as
    code: they become `_`. A layer or tensor at the top called like an attribute of graph modules (`plan`) is called
    `plan_` from here on.
    """
    modules = list(copied.modules())
    names: _Names = {id(m): dict(_new_names(m, top=m is copied)) for m in modules}
    if not any(names.values()):
        return
    paths = dict(_paths(copied, names))
    for module in modules:
        for table in _tables(module):
            kept = [(names[id(module)].get(name, name), value) for name, value in table.items()]
            table.clear()
            table.update(kept)
    for node in graph.nodes:
        if not node.name.isidentifier():  # torch.fx lets a new line at the end pass
            node._rename(node.name.strip())
        if node.op in ("call_module", "get_attr"):
            node.target = paths.get(str(node.target), node.target)
        stack: dict[str, tuple[str, object]] = node.meta.get("nn_module_stack") or {}
        if stack:
            node.meta["nn_module_stack"] = OrderedDict((k, (paths.get(p, p), kind)) for k, (p, kind) in stack.items())


def _tables(module: nn.Module) -> tuple[dict[str, Any], ...]:
    return module._modules, module._parameters, module._buffers


def _new_names(module: nn.Module, *, top: bool) -> Iterator[tuple[str, str]]:
    taken = {name for table in _tables(module) for name in table}
    for name in sorted(taken):
        odd = _PLAIN.fullmatch(name) is None
        if odd or (top and is_reserved(name)):
            new = re.sub(r"[^\w#\- ]", "_", name) if odd else f"{name}_"
            while not new or new in taken or hasattr(module, new) or (top and is_reserved(new)):
                new += "_"
            taken.add(new)
            yield name, new


def _paths(module: nn.Module, names: _Names, old: str = "", new: str = "") -> Iterator[tuple[str, str]]:
    """Old and new path of everything in a model whose tables still have the old names."""
    for table in _tables(module):
        for name, value in table.items():
            before, after = f"{old}{name}", f"{new}{names[id(module)].get(name, name)}"
            yield before, after
            if isinstance(value, nn.Module):
                yield from _paths(value, names, f"{before}.", f"{after}.")


def name_nodes(captured: fx.GraphModule) -> None:
    """Give every node the path a person knows it by: its module's, or its enclosing module's plus the op's name."""
    for node in captured.graph.nodes:
        if node.op == "call_module":
            node.meta["layer"] = str(node.target)
        elif node.op in ("call_function", "call_method"):
            op = find_op(captured, node)
            stack: OrderedDict[str, tuple[str, object]] = node.meta.get("nn_module_stack") or OrderedDict()
            path = next(reversed(stack.values()))[0] if stack else ""
            name = op.name if op else str(getattr(node.target, "__name__", node.target))
            name = f"{name}#1" if is_reserved(name) else name  # x.float() must not hide the method of that name
            node.meta["layer"] = f"{path}.{name}" if path else name
        elif node.op == "get_attr":
            node.meta["layer"] = f"{node.target}#1"  # its observer stands below a path that is not the tensor's own
        else:
            node.meta["layer"] = node.name
    seen: dict[str, int] = {}
    for node in captured.graph.nodes:
        layer = node.meta["layer"]
        seen[layer] = seen.get(layer, 0) + 1
        if seen[layer] > 1:
            node.meta["layer"] = f"{layer}#{seen[layer]}"
