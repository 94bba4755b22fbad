"""Suites as declared, listed and loaded from files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_ptq.errors import PTQError, SuiteError, UnknownNameError
from pytest_ptq.sources import FashionMNIST, TorchvisionModel
from pytest_ptq.suite import Suite, Variant, list_suites, load_suite, packaged_baselines, packaged_suites

VARIANT = Variant(model=TorchvisionModel("resnet18"), data=FashionMNIST())
EMBEDDED = ("mobilenet_v2", "mobilenet_v3_small", "resnet50")
TORCHVISION = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
    "mnasnet1_0", "mobilenet_v3_large", "regnet_y_400mf", "resnet18", "resnext50_32x4d", "shufflenet_v2_x1_0",
    "squeezenet1_1", "swin_t", "vgg16_bn", "vit_b_16", "wide_resnet50_2",
)  # fmt: skip
SCALE_THEIR_INPUT = ("googlenet", "inception_v3")
"""torchvision's own model brings images to -1..1 when it loads these weights; the suites' data come so."""
PACKAGED = tuple(sorted((*EMBEDDED, *TORCHVISION, "efficientnet_lite0")))
GOOD = """
from pytest_ptq import FashionMNIST, Suite, TorchvisionModel, Variant
suite = Suite(name="mine", variants={"embedded": Variant(TorchvisionModel("resnet18"), FashionMNIST())})
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"name": ""}, "not a usable name"),
        ({"name": "a/b"}, "not a usable name"),
        ({"variants": {}}, "no variants"),
        ({"variants": {"embedded": (1, 2)}}, "variant 'embedded' is a tuple"),
        ({"qconfigs": ()}, "no qconfigs"),
        ({"qconfigs": "x86"}, "single string"),
        ({"latency_shape": (1, 3, 0, 224)}, "latency_shape"),
        ({"latency_shape": ()}, "latency_shape"),
        ({"runtimes": ()}, r"runtimes is \(\)\. Give names"),
        ({"runtimes": "openvino"}, r'runtimes is .openvino.\. Write \("openvino",\)'),
        ({"runtimes": ("torch", "openvin")}, "mine: unknown runtime 'openvin'. Did you mean 'openvino'"),
        ({"runtimes": (None,)}, "unknown runtime 'None'"),
    ],
)
def test_nonsense_in_a_declaration_is_refused(fields: dict[str, object], said: str) -> None:
    declared = {"name": "mine", "variants": {"embedded": VARIANT}, **fields}
    with pytest.raises(SuiteError, match=said):
        Suite(**declared)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_suites_have_their_files_name_and_their_kinds_of_data(name: str) -> None:
    suite = load_suite(name, [packaged_suites()])
    assert suite.name == name
    assert list(suite.variants) == (["embedded", "imagenet"] if name in EMBEDDED else ["imagenet"])
    crop = suite.variants["imagenet"].data.crop  # type: ignore[attr-defined]
    assert suite.latency_shape == (1, 3, crop, crop)


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_suites_have_limits(name: str) -> None:
    path = packaged_suites().parent / "baselines" / f"{name}.json"
    data = json.loads(path.read_text(encoding="utf-8"))["data"]
    suite = load_suite(name, [packaged_suites()])
    kind = next(iter(suite.variants))
    assert set(data) <= set(suite.variants)
    assert {"x86", "minmax"} <= set(data[kind]["limits"])


@pytest.mark.parametrize("name", [*EMBEDDED, *TORCHVISION])
def test_imagenet_variants_follow_torchvisions_own_recipe(name: str) -> None:
    from torchvision import models

    variant = load_suite(name, [packaged_suites()]).variants["imagenet"]
    recipe = models.get_model_weights(name)[variant.model.weights].transforms()  # type: ignore[union-attr]
    data = variant.data
    assert [data.resize] == recipe.resize_size  # type: ignore[attr-defined]
    assert [data.crop] == recipe.crop_size  # type: ignore[attr-defined]
    own = name in SCALE_THEIR_INPUT
    assert list(data.mean) == ([0.5] * 3 if own else recipe.mean)  # type: ignore[attr-defined]
    assert list(data.std) == ([0.5] * 3 if own else recipe.std)  # type: ignore[attr-defined]
    assert data.interpolation == recipe.interpolation.value  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", SCALE_THEIR_INPUT)
def test_data_that_come_scaled_are_what_torchvision_scales(name: str) -> None:
    import torch
    from torchvision import models

    pixels = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    recipe = models.get_model_weights(name)["IMAGENET1K_V1"].transforms()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (recipe.mean, recipe.std))
    kind = {"googlenet": models.GoogLeNet, "inception_v3": models.Inception3}[name]
    scaled = kind._transform_input(SimpleNamespace(transform_input=True), (pixels - mean) / std)
    torch.testing.assert_close((pixels - 0.5) / 0.5, scaled)


def test_list_suites_prefers_the_earlier_folder_and_skips_private_files(tmp_path: Path) -> None:
    mine = write(tmp_path / "suites" / "resnet50.py", GOOD)
    for private in ("_shared.py", "conftest.py"):
        write(tmp_path / "suites" / private, "")
    found = list_suites([tmp_path / "suites", packaged_suites(), tmp_path / "absent"])
    assert list(found) == list(PACKAGED)
    assert found["resnet50"] == mine
    assert load_suite("resnet50", [tmp_path / "suites", packaged_suites()]).name == "mine"


def test_packaged_folders_prefer_what_a_wheel_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert packaged_baselines().name == "baselines"
    monkeypatch.setattr("pytest_ptq.suite._PACKAGE", tmp_path / "pytest_ptq")
    assert packaged_suites() == tmp_path / "suites"
    (tmp_path / "pytest_ptq" / "_suites").mkdir(parents=True)
    assert packaged_suites() == tmp_path / "pytest_ptq" / "_suites"
    assert packaged_baselines() == tmp_path / "baselines"


def test_a_path_names_a_users_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mine.py", GOOD)
    monkeypatch.chdir(tmp_path)
    assert load_suite("mine.py", []).name == "mine"
    assert load_suite("./mine.py", []).name == "mine"
    assert load_suite(tmp_path / "mine.py", []).name == "mine"


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'resnet50'"):
        load_suite("resnet5", [packaged_suites()])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"absent\.py: there is no such file"):
        load_suite(tmp_path / "absent.py", [])


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("import math\nmath.sqrt(-1)\n", 2, "raises ValueError: "),
        ("x = 1\n\ndef broken(:\n", 3, "raises SyntaxError: "),
        ("def f():\n    raise RuntimeError('two\\nlines')\nf()\n", 2, "raises RuntimeError: two lines"),
        ("import no_such_module_at_all\n", 1, "raises ModuleNotFoundError: No module"),
        ("import sys\nsys.exit(3)\n", 2, "raises SystemExit: 3"),
        ("from pytest_ptq import get_qconfig\nget_qconfig('x68')\n", 2, "unknown qconfig 'x68'. Did you mean 'x86'?"),
    ],
)
def test_a_file_that_raises_is_one_sentence_with_its_line(tmp_path: Path, text: str, line: int, said: str) -> None:
    path = write(tmp_path / "mine.py", text)
    with pytest.raises(SuiteError) as caught:
        load_suite(path, [])
    assert caught.value.place == f"{path}:{line}"
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "said"), [("", "`suite` is missing"), ("suite = 3", "`suite` is a int")])
def test_a_file_without_a_suite_says_what_to_write(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SuiteError, match=said):
        load_suite(write(tmp_path / "mine.py", text), [])


def test_files_of_one_name_do_not_meet_and_leave_no_cache_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    helpers = "from dataclasses import dataclass\n@dataclass\nclass Helper:\n    n: 'int' = 1\n"
    one = write(tmp_path / "a" / "json.py", f"from __future__ import annotations\n{helpers}{GOOD}")
    other = write(tmp_path / "b" / "json.py", GOOD.replace('"mine"', '"other"'))
    assert [load_suite(path, []).name for path in (one, other)] == ["mine", "other"]
    import json

    assert Path(json.__file__).parent.name == "json"
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_file_is_read_anew_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    path = write(tmp_path / "mine.py", GOOD)
    load_suite(path, [])
    write(path, GOOD.replace('"mine"', '"main"'))  # same size, same second
    assert load_suite(path, []).name == "main"


def test_a_failed_file_leaves_no_module_behind(tmp_path: Path) -> None:
    before = set(sys.modules)
    with pytest.raises(PTQError):
        load_suite(write(tmp_path / "mine.py", "1 / 0"), [])
    assert not {name for name in set(sys.modules) - before if "mine" in name}


def test_loading_every_suite_imports_neither_torch_nor_pillow() -> None:
    kit = Path(__file__).parent / "suites" / "mobilenet_v2_kit.py"
    script = f"""
import sys
from pathlib import Path
import pytest_ptq, pytest_ptq.sources
from pytest_ptq.suite import list_suites, load_suite, packaged_suites
for name in list_suites([packaged_suites()]):
    load_suite(name, [packaged_suites()])
load_suite(Path({str(kit)!r}), [])
print([name for name in ("torch", "torchvision", "PIL", "numpy", "safetensors") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"metrics": "miou_percent"}, r'metrics is \'miou_percent\'. Write \("miou_percent",\).'),
        ({"metrics": (1,)}, r"metrics is \(1,\). Give names"),
        ({"metrics": None}, "metrics is None"),
        ({"top1": False}, "without top1 and metrics nothing tells how good the model is. Name a metric"),
    ],
)
def test_metrics_that_cannot_be(declared: dict[str, object], said: str) -> None:
    variants = {"own": Variant(model=lambda: None, data=None)}  # type: ignore[arg-type,return-value]
    with pytest.raises(SuiteError, match=f"suite: x: {said}"):
        Suite("x", variants, **declared)  # type: ignore[arg-type]
    assert Suite("x", variants, metrics=("miou_percent",), top1=False).metrics == ("miou_percent",)
