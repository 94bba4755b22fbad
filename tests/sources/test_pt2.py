"""`.pt2` files: a plain one is read, and whatever would run code is refused before it does."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pytest_ptq.errors import SuiteError
from pytest_ptq.sources import ExportedProgram

Records = dict[str, bytes]
PROGRAM, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"


class Evil:
    """Unpickled, it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)).eval()
    program = torch.export.export(
        model, (torch.rand(2, 3, 8, 8),), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=4096)},)
    )
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    torch.export.save(program, path)
    return path


def records(path: Path) -> Records:
    from torch.export.pt2_archive._package import PT2ArchiveReader

    with PT2ArchiveReader(str(path)) as archive:
        return {name: archive.read_bytes(name) for name in archive.get_file_names()}


def write(path: Path, content: Records) -> Path:
    from torch.export.pt2_archive._package import PT2ArchiveWriter

    with PT2ArchiveWriter(str(path)) as archive:
        for name, data in content.items():
            if not name.startswith((".", "archive_", "byteorder", "version")):
                archive.write_bytes(name, data)
    return path


def changed(content: Records, name: str, change: Callable[[Any], None]) -> None:
    tree = json.loads(content[name])
    change(tree)
    content[name] = json.dumps(tree).encode()


def graph(tree: Any) -> Any:
    return tree["graph_module"]["graph"]


def test_a_plain_program_of_any_batch(plain: Path, tmp_path: Path) -> None:
    again = write(tmp_path / "again.pt2", records(plain))
    for path in (plain, again):
        assert ExportedProgram(path).build()(torch.rand(5, 3, 8, 8)).shape == (5, 10)


def pickled_weight(content: Records, mark: Path) -> None:
    content["data/weights/weight_0"] = pickle.dumps(Evil(mark))
    changed(content, WEIGHTS, lambda tree: tree["config"]["0.weight"].update(use_pickle=True))


def pickled_object(content: Records, mark: Path) -> None:
    content["data/constants/opaque_obj_0"] = pickle.dumps(Evil(mark))
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": False, "tensor_meta": None}
    changed(content, "data/constants/model_constants_config.json", lambda tree: tree["config"].update(evil=entry))


def pickled_samples(content: Records, mark: Path) -> None:
    held = io.BytesIO()
    torch.save(((Evil(mark),), {}), held)
    content["data/sample_inputs/model.pt"] = held.getvalue()


def pickled_legacy_weights(content: Records, mark: Path) -> None:
    content["data/weights/model.pt"] = pickle.dumps(Evil(mark))


def library(content: Records, mark: Path) -> None:
    content["data/aotinductor/model/wrapper.so"] = b"\x7fELF"


def shell(content: Records, mark: Path) -> None:
    def change(tree: Any) -> None:
        node = graph(tree)["nodes"][1]
        node["target"] = "torch.os.system"
        node["inputs"] = [{"name": "command", "arg": {"as_string": f"touch {mark.name}"}, "kind": 1}]

    changed(content, PROGRAM, change)


def file_reader(content: Records, mark: Path) -> None:
    changed(content, PROGRAM, lambda tree: graph(tree)["nodes"][1].update(target="torch.ops.aten.from_file.default"))


def evaluated_size(content: Records, mark: Path) -> None:
    expression = {"as_expr": {"expr_str": f"__import__('pathlib').Path({str(mark)!r}).touch()", "hint": None}}
    changed(content, PROGRAM, lambda tree: graph(tree)["tensor_values"]["relu"]["sizes"].__setitem__(0, expression))


def compiled_guard(content: Records, mark: Path) -> None:
    changed(content, PROGRAM, lambda tree: tree.update(guards_code=[f"open({str(mark)!r}, 'w')"]))


def imported_factory(content: Records, mark: Path) -> None:
    def change(tree: Any) -> None:
        signature = tree["graph_module"]["module_call_graph"][0]["signature"]
        signature["in_spec"] = signature["in_spec"].replace("builtins.dict", "collections.defaultdict")

    changed(content, PROGRAM, change)


def named_argument(content: Records, mark: Path) -> None:
    changed(content, PROGRAM, lambda tree: graph(tree)["nodes"][1]["inputs"][0].update(name="x=1\nimport os#'"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (pickled_weight, r"'0\.weight' is pickled"),
        (pickled_object, "it holds 'data/constants/opaque_obj_0'"),
        (pickled_samples, "its example inputs are more than tensors"),
        (pickled_legacy_weights, r"it holds 'data/weights/model\.pt'"),
        (library, r"it holds 'data/aotinductor/model/wrapper\.so'"),
        (shell, r"it calls 'torch\.os\.system', which is none of the operators that compute"),
        (file_reader, r"it calls 'torch\.ops\.aten\.from_file\.default'"),
        (evaluated_size, "is no expression of sizes"),
        (compiled_guard, "is no expression of sizes"),
        (imported_factory, r"its inputs or outputs are made of 'collections\.defaultdict'"),
        (named_argument, 'something in it is called "x=1'),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_would_run_code_is_refused_before_it_does(
    plain: Path, tmp_path: Path, change: Callable[[Records, Path], None], why: str
) -> None:
    mark, content = tmp_path / "mark", records(plain)
    change(content, mark)
    path = write(tmp_path / "evil.pt2", content)
    with pytest.raises(SuiteError, match=f"evil.pt2: it is not loaded, because .*{why}"):
        ExportedProgram(path).build()
    assert not mark.exists()


def test_the_pickles_of_these_tests_would_have_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Evil(tmp_path / "mark")))  # noqa: S301 - what the others are protected from
    assert (tmp_path / "mark").exists()


def test_damage_and_strange_operators_are_one_sentence(plain: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.pt2"
    damaged.write_bytes(plain.read_bytes()[:1000])
    with pytest.raises(SuiteError, match=r"damaged\.pt2: this is no \.pt2 file\. Write it with torch\.export\.save\."):
        ExportedProgram(damaged).build()
    content = records(plain)
    target = "torch.ops.quantized_decomposed.no_such.default"
    changed(content, PROGRAM, lambda tree: graph(tree)["nodes"][1].update(target=target))
    with pytest.raises(SuiteError, match=r"torch cannot load it .*bring a function that imports that"):
        ExportedProgram(write(tmp_path / "strange.pt2", content)).build()
