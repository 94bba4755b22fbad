"""`.pt2` files, read without running code from them.

`torch.export.load` reads a graph of operators and the tensors that they need, and along with it whatever else the
format may hold: pickled weights and objects, compiled libraries, expressions that go through `eval`, guards that are
compiled, and operators that may be any attribute of `torch`. A file is refused unless it does without all of those. It
is read once, so that what is checked is what is loaded.
"""

from __future__ import annotations

import ast
import io
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_ptq.errors import SuiteError

RECORDS = re.compile(
    r"data/weights/(weight_\d+|model_weights_config\.json)|data/constants/(tensor_\d+|model_constants_config\.json)"
    r"|data/sample_inputs/model\.pt|models/model\.json|extra/.*"
    r"|archive_format|archive_version|byteorder|version|\.data/(version|serialization_id|alignment)|\.format_version|\.storage_alignment"
)
"""What a file with one plain program is made of."""
SAMPLES = "data/sample_inputs/model.pt"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
OPERATORS = re.compile(
    r"torch\.ops\.(aten|prims|quantized|quantized_decomposed|onednn|torchao|torchvision)\.\w+\.\w+"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|neg|pow|eq|ne|lt|le|gt|ge|getitem|and_|or_|not_|index)"
    r"|torch\.sym_(max|min|not|float|int|sum|ite)|torch\.ops\.higher_order\.(wrap_with_set_grad_enabled|wrap_with_autocast)"
)
"""Operators that compute; everything else that a name could lead to is refused."""
TOUCHES_FILES = re.compile(r"\.(from_file|save|_save|load|record_stream)\b")
TREES = frozenset({None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"})
"""Containers that inputs and outputs may be made of."""
FUNCTIONS = frozenset({
    "Symbol", "Integer", "Float", "Add", "Mul", "Pow", "Mod", "PythonMod", "FloorDiv", "CleanDiv", "CeilDiv",
    "Max", "Min", "Abs", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "ToFloat", "TruncToInt", "IntTrueDiv",
    "FloorToInt", "CeilToInt", "Identity", "Where",
})  # fmt: skip
"""What an expression of sizes may call."""
METHODS = frozenset({"size", "stride", "storage_offset", "dim", "shape", "ndim"})
SYNTAX = (
    ast.Expression, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.keyword, ast.Constant, ast.Name,
    ast.Subscript, ast.Attribute, ast.Load, ast.operator, ast.unaryop, ast.cmpop, ast.boolop,
)  # fmt: skip
NAMES = frozenset({"L", "True", "False", "oo", "inf", "int_oo"})


def load_pt2(path: Path) -> Callable[[Any], Any]:
    """The program of a file, ready to be called.

    Raises SuiteError: it is damaged, holds what would run code, or needs operators that are not there.
    """
    import torch
    from torch.export.pt2_archive._package import PT2ArchiveReader

    content = path.read_bytes()
    try:
        with PT2ArchiveReader(io.BytesIO(content)) as archive:
            records = {name: archive.read_bytes(name) for name in archive.get_file_names()}
    except Exception as error:
        raise SuiteError("this is no .pt2 file", place=str(path), remedy="Write it with torch.export.save.") from error
    why = next(_unsafe(records), None)
    if why is not None:
        remedy = "Save it anew with torch.export.save, or bring the model as a function that makes it."
        raise SuiteError(f"it is not loaded, because {why}", place=str(path), remedy=remedy)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(io.BytesIO(content))
            return program.module()
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        remedy = "Where it needs operators of another package, bring a function that imports that and loads the file."
        raise SuiteError(f"torch cannot load it ({first[:200]})", place=str(path), remedy=remedy) from error


def _unsafe(records: Mapping[str, bytes]) -> Iterator[str]:
    """Clauses that tell what of it would run code, the first one first."""
    yield from (f"it holds {name!r}" for name in records if not RECORDS.fullmatch(name))
    if "models/model.json" not in records:
        yield "there is no program called 'model' in it"
        return
    for name in CONFIGS:
        for key, entry in json.loads(records.get(name, b'{"config": {}}'))["config"].items():
            if entry["use_pickle"] is not False:
                yield f"{key!r} is pickled"
            if not re.fullmatch(r"(weight|tensor)_\d+", entry["path_name"]):
                yield f"{key!r} lies in {entry['path_name']!r}"
    yield from _unsafe_samples(records.get(SAMPLES, b""))
    yield from _unsafe_values(json.loads(records["models/model.json"]), "")


def _unsafe_samples(content: bytes) -> Iterator[str]:
    """torch reads what this refuses once more, and then with pickle."""
    import torch

    try:
        if content:
            torch.load(io.BytesIO(content), weights_only=True)
    except Exception:
        yield "its example inputs are more than tensors"


def _unsafe_values(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, list):
        for part in value:
            yield from _unsafe_values(part, key)
    elif isinstance(value, dict):
        for name, part in value.items():
            if not re.fullmatch(r"[\w.]*", name):
                yield f"something in it is called {name!r}"
            if name != "metadata":  # where it came from: text that is kept, and read by people
                yield from _unsafe_values(part, name)
        if key == "treespec_namedtuple_fields" and value:
            yield "its inputs or outputs are named tuples"
    elif isinstance(value, str):
        why = _CHECKS.get(key, _plain)(value)
        if why:
            yield why


def _operator(name: str) -> str:
    known = OPERATORS.fullmatch(name) and not TOUCHES_FILES.search(name)
    return "" if known else f"it calls {name!r}, which is none of the operators that compute"


def _expression(text: str) -> str:
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return f"{text[:60]!r} is no expression of sizes"
    return "" if all(map(_is_plain, ast.walk(tree))) else f"{text[:60]!r} is no expression of sizes"


def _is_plain(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) or bool(re.fullmatch(r"\w+", str(node.value)))
    if isinstance(node, ast.Name):
        return node.id in FUNCTIONS | NAMES or bool(re.fullmatch(r"[suz]\d+|zuf\d+", node.id))
    if isinstance(node, ast.Attribute):
        return node.attr in METHODS
    return isinstance(node, SYNTAX)


def _tree(text: str) -> str:
    def kinds(value: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            yield value.get("type")
            for part in value.get("children_spec", ()):
                yield from kinds(part)
        elif isinstance(value, list):
            for part in value:
                yield from kinds(part)

    strange = next((kind for kind in kinds(json.loads(text)) if kind not in TREES), None)
    return "" if strange is None else f"its inputs or outputs are made of {strange!r}"


def _plain(text: str) -> str:
    return "" if re.fullmatch(r"[\w.,:;/+\- \[\]()#*<>=]*", text) else f"it holds the text {text[:60]!r}"


_CHECKS: Mapping[str, Callable[[str], str]] = {
    "target": _operator,
    "as_operator": _operator,
    "expr_str": _expression,
    "guards_code": _expression,
    "in_spec": _tree,
    "out_spec": _tree,
    "name": lambda name: "" if re.fullmatch(r"[\w.]*", name) else f"something in it is called {name!r}",
    "class_fqn": lambda name: f"it holds an object of {name!r}",
}
"""What a text has to be, by the key under which it stands."""
