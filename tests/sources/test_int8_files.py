"""Files with int8 models: what is declared, where it lies, and how large it is."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

import pytest_ptq
from pytest_ptq.errors import SuiteError, UnknownNameError
from pytest_ptq.sources import ExportedProgram, Int8File, OnnxFile, OpenVINOFile, TorchScriptFile


def model(path: Path, *, external: str | None = None) -> Path:
    weight = helper.make_tensor("w", TensorProto.FLOAT, [4, 4], [1.0] * 16)
    if external is not None:
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value=external)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [weight],
    )
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def test_a_file_is_seen_from_the_folder_of_whoever_declares_it(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx")
    declared = OnnxFile("m.onnx")
    assert declared.runtime == "onnxruntime"
    assert declared.at(tmp_path).files() == (path,)
    assert declared.at(tmp_path).bytes() == path.stat().st_size
    assert OnnxFile(path).at(Path("/elsewhere")).check() == path
    assert hash(declared) == hash(OnnxFile("m.onnx"))


def test_weights_beside_the_file_count(tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", external="m.onnx.data")
    with pytest.raises(SuiteError, match=r"its weights are in m\.onnx\.data, which is not beside it"):
        OnnxFile(path).bytes()
    (tmp_path / "m.onnx.data").write_bytes(b"\0" * 64)
    assert OnnxFile(path).bytes() == path.stat().st_size + 64
    xml = tmp_path / "m.xml"
    xml.write_text("<net/>", encoding="utf-8")
    with pytest.raises(SuiteError, match=r"m\.xml: its weights are in m\.bin"):
        OpenVINOFile(xml).files()
    (tmp_path / "m.bin").write_bytes(b"\0" * 10)
    assert OpenVINOFile(xml).bytes() == 16


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd"])
def test_weights_from_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SuiteError, match="its weights are kept outside of its folder"):
        OnnxFile(model(tmp_path / "m.onnx", external=name)).files()


def test_something_else_than_a_model(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"no model at all")
    with pytest.raises(SuiteError, match=r"m\.onnx: this is no ONNX model"):
        OnnxFile(path).files()
    with pytest.raises(SuiteError, match="there is no such file"):
        OnnxFile(tmp_path / "other.onnx").check()
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(SuiteError, match="there is a folder where a file was meant"):
        OnnxFile(tmp_path / "folder.onnx").check()


@pytest.mark.parametrize(
    ("kind", "name", "remedy"),
    [
        (OnnxFile, "m.xml", r"OnnxFile reads files that end in \.onnx"),
        (OpenVINOFile, "m.bin", r"ends? in \.xml"),
        (ExportedProgram, "m.pt", r"ends? in \.pt2"),
        (TorchScriptFile, "m.pt2", r"ends? in \.pt or \.pth or \.ts"),
    ],
)
def test_another_kind_of_file(kind: type[Int8File], name: str, remedy: str) -> None:
    with pytest.raises(SuiteError, match=remedy):
        kind(name)


def test_no_path_and_no_runtime() -> None:
    for wrong in ("", 3, None):
        with pytest.raises(SuiteError, match=r"is no path\. Write OnnxFile\('FILE'\)\."):
            OnnxFile(wrong)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match=r"unknown runtime of an ONNX file 'openvin'\. Did you mean"):
        OnnxFile("m.onnx", runtime="openvin")


def test_public_names() -> None:
    assert pytest_ptq.OnnxFile is OnnxFile
    assert pytest_ptq.ExportedProgram is ExportedProgram
    assert onnx is not None
