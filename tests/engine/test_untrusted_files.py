"""Files that are damaged, of another kind, or written with bad intent: none is read, and none brings code along."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from engine.files import find, rewrite
from engine.nets import images, residual_net, run
from pytest_ptq import engine
from pytest_ptq.engine import artifact
from pytest_ptq.errors import StoreError


def test_rewriting_itself_does_no_harm(saved: Path) -> None:
    rewrite(saved, lambda graph: None)
    engine.load(saved)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.9999])
def test_a_truncated_file_is_refused(saved: Path, share: float) -> None:
    content = saved.read_bytes()
    saved.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(StoreError, match=r"model\.safetensors: not a readable model"):
        engine.load(saved)


@pytest.mark.parametrize("position", [0.2, 0.5, 0.8, 0.999])
def test_a_damaged_file_is_refused(saved: Path, position: float) -> None:
    content = bytearray(saved.read_bytes())
    content[int(len(content) * position)] ^= 0x10
    saved.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        engine.load(saved)
    assert "\n" not in str(caught.value)


def test_a_changed_graph_is_refused(saved: Path) -> None:
    rewrite(saved, lambda graph: graph["layers"]["conv1"]["arguments"].update(groups=3), digest=False)
    with pytest.raises(StoreError, match="the content does not match its checksum"):
        engine.load(saved)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(StoreError, match="not a readable model"):
        engine.load(path)
    with pytest.raises(StoreError, match="not a readable model"):
        engine.load(tmp_path)
    torch.save(residual_net().state_dict(), path)
    with pytest.raises(StoreError, match="not a readable model"):
        engine.load(path)
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(StoreError, match="not an int8 model of schema 1"):
        engine.load(path)
    safetensors.torch.save_file({"w": torch.zeros(3)}, path, {artifact.FORMAT: '{"schema": 99}'})
    with pytest.raises(StoreError, match=r"not an int8 model of schema 1\. Save it again"):
        engine.load(path)
    for damaged in ("[]", "{", '{"schema": 1}'):
        safetensors.torch.save_file({"w": torch.zeros(3)}, path, {artifact.FORMAT: damaged})
        with pytest.raises(StoreError, match="the stored graph is damaged"):
            engine.load(path)


class Canary:
    """Was code from a file run?"""

    called = False


INJECTED = "setattr(__import__('engine.test_untrusted_files', fromlist=['x']).Canary, 'called', True)"


def _function(graph: dict[str, Any]) -> None:
    find(graph, "call_function")["target"] = "os.system"


def _builtin(graph: dict[str, Any]) -> None:
    find(graph, "call_function")["target"] = "builtins.eval"


def _method(graph: dict[str, Any]) -> None:
    find(graph, "call_method")["target"] = "__class__"


def _layer_of_ours(graph: dict[str, Any]) -> None:
    graph["layers"]["conv1"]["own"] = "Tally"


def _layer_of_torch(graph: dict[str, Any]) -> None:
    graph["layers"]["odd"]["nn"] = "functional"


def _function_for_a_layer(graph: dict[str, Any]) -> None:
    graph["layers"]["odd"]["nn"] = "factory_kwargs"


def _operation(graph: dict[str, Any]) -> None:
    find(graph, "call_function")["op"] = "execute"


def _argument_name(graph: dict[str, Any]) -> None:
    find(graph, "call_function")["kwargs"] = {f"x={INJECTED}, y": 1}


def _parameter_name(graph: dict[str, Any]) -> None:
    find(graph, "placeholder")["target"] = f"x, y={INJECTED}"


def _node_name(graph: dict[str, Any]) -> None:
    find(graph, "call_function")["name"] = f"x = {INJECTED}; y"


def _layer_path(graph: dict[str, Any]) -> None:
    without_dots = INJECTED.replace(
        "engine.test_untrusted_files', fromlist=['x']).Canary", "engine'), 'test_untrusted_files'), 'Canary')"
    )
    code = without_dots.replace("setattr(", "setattr(getattr(getattr(")
    path = f'odd"), {code}, getattr(self, "odd'
    graph["layers"][path] = graph["layers"].pop("odd")
    next(n for n in graph["nodes"] if n["target"] == "odd")["target"] = path


def _unknown_path(graph: dict[str, Any]) -> None:
    find(graph, "call_module")["target"] = "forward.__globals__"


def _attribute(graph: dict[str, Any]) -> None:
    node = find(graph, "call_function")
    node["op"], node["target"], node["args"] = "get_attr", "forward.__globals__", []


def _nothing(graph: dict[str, Any]) -> None:
    graph.clear()


def _unknown_node(graph: dict[str, Any]) -> None:
    find(graph, "call_module")["args"] = [{"node": "nobody"}]


def _two_kinds(graph: dict[str, Any]) -> None:
    find(graph, "call_module")["args"] = [{"node": "x", "tuple": []}]


def _wrong_type(graph: dict[str, Any]) -> None:
    graph["nodes"] = 7


ATTACKS = [
    _function, _builtin, _method, _layer_of_ours, _layer_of_torch, _function_for_a_layer, _operation, _argument_name,
    _parameter_name, _node_name, _layer_path, _unknown_path, _attribute, _nothing, _unknown_node, _two_kinds,
    _wrong_type,
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_brings_no_code(saved: Path, attack: Callable[[dict[str, Any]], None]) -> None:
    rewrite(saved, attack)
    Canary.called = False
    with pytest.raises(StoreError) as caught:
        run(engine.load(saved), images())
    assert not Canary.called
    assert "\n" not in str(caught.value)
