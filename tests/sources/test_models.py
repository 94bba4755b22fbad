from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from pytest_ptq.errors import SuiteError, UnknownNameError, WeightsError
from pytest_ptq.sources import FashionMNIST, TorchvisionModel, build_model
from pytest_ptq.sources.models import EMBEDDED_FOLDER

SMALL = TorchvisionModel("mobilenet_v3_small", classes=10, weights="embedded:mobilenet_v3_small_fashion_mnist")


@pytest.fixture(scope="module")
def small() -> nn.Module:
    return SMALL.build()


def test_an_embedded_model_is_float_and_in_eval_mode(small: nn.Module) -> None:
    assert not any(module.training for module in small.modules())
    assert {p.dtype for p in small.parameters()} == {torch.float32}
    assert small(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_embedded_weights_are_the_files_values(small: nn.Module) -> None:
    with safe_open(EMBEDDED_FOLDER / "mobilenet_v3_small_fashion_mnist.safetensors", "pt") as stored:
        assert set(stored.keys()) == set(small.state_dict())
        for key, value in small.state_dict().items():
            assert torch.equal(stored.get_tensor(key).to(value.dtype), value)


def test_embedded_weights_are_as_accurate_as_their_file_says(small: nn.Module) -> None:
    hits = count = 0
    with torch.inference_mode():
        for x, y in FashionMNIST(evaluation=1000).load().evaluation():
            hits += int((small(x).argmax(1) == y).sum())
            count += len(y)
    assert hits / count > 0.88


def test_a_missing_embedded_file_is_named() -> None:
    with pytest.raises(WeightsError, match=r"absent\.safetensors: there is no such file"):
        TorchvisionModel("resnet18", weights="embedded:absent").build()


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone() -> None:
    source = TorchvisionModel("squeezenet1_1", classes=4, weights="random")
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    one = source.build()
    assert torch.equal(torch.rand(3), expected)
    two = source.build()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_classifiers_that_only_training_reads_are_no_part_of_the_model() -> None:
    """They would count in fp32's size, and int8 has none. Outputs are the same without them."""
    from torchvision import models

    model = TorchvisionModel("googlenet", classes=10, weights="random").build()
    assert not [name for name, _ in model.named_parameters() if name.startswith("aux")]
    with_them = models.GoogLeNet(num_classes=10, init_weights=False).eval()
    assert with_them.load_state_dict(model.state_dict(), strict=False).unexpected_keys == []
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(model(x), with_them(x))


def test_a_weights_file_goes_before_the_declared_weights(tmp_path: Path, small: nn.Module) -> None:
    state = {k: v.clone() for k, v in small.state_dict().items()}
    state["classifier.3.bias"] += 1
    save_file(state, tmp_path / "mine.safetensors")
    built = SMALL.build(tmp_path / "mine.safetensors")
    assert torch.equal(built.state_dict()["classifier.3.bias"], state["classifier.3.bias"])


def test_no_declared_weights_ask_for_a_file() -> None:
    with pytest.raises(WeightsError, match="Use --ptq-weights FILE"):
        TorchvisionModel("mobilenet_v3_small").build()


def test_another_number_of_classes_is_named() -> None:
    source = TorchvisionModel("mobilenet_v3_small", classes=12, weights=SMALL.weights)
    with pytest.raises(WeightsError, match=r"classifier\.3\.weight \(10, 1024\) instead of \(12, 1024\)"):
        source.build()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (TorchvisionModel("resnet5"), "unknown torchvision model 'resnet5'"),
        (TorchvisionModel("mobilenet_v3_small", weights="IMAGENET1K_V3"), "Did you mean 'IMAGENET1K_V1'"),
    ],
)
def test_unknown_names_are_refused(source: TorchvisionModel, said: str) -> None:
    with pytest.raises(UnknownNameError, match=said):
        source.build()


@pytest.mark.parametrize("error", [URLError("no route to host"), TimeoutError("timed out"), RuntimeError("bad hash")])
def test_a_failed_download_says_what_to_use_instead(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        assert kwargs["weights_only"] is True
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    with pytest.raises(WeightsError, match=r"could not be downloaded.*use --ptq-weights FILE"):
        TorchvisionModel("mobilenet_v3_small", weights="IMAGENET1K_V1").build()


def test_a_callable_is_built_and_put_in_eval_mode() -> None:
    model = build_model(lambda: nn.Sequential(nn.Linear(2, 2), nn.Dropout()))
    assert not model.training
    assert isinstance(build_model(nn.Identity), nn.Identity)


def test_weights_from_a_file_are_loaded_into_what_a_callable_builds(tmp_path: Path) -> None:
    state = {"weight": torch.full((2, 2), 3.0), "bias": torch.zeros(2)}
    torch.save(state, tmp_path / "w.pth")
    model = build_model(lambda: nn.Linear(2, 2), tmp_path / "w.pth")
    assert torch.equal(model.state_dict()["weight"], state["weight"])


def test_a_model_that_others_hold_stays_as_it_is(tmp_path: Path) -> None:
    mine = nn.Linear(2, 2)
    before = mine.weight.detach().clone()
    torch.save({"weight": torch.full((2, 2), 3.0), "bias": torch.zeros(2)}, tmp_path / "w.pth")
    assert not build_model(lambda: mine).training
    build_model(lambda: mine, tmp_path / "w.pth")
    assert mine.training
    assert torch.equal(mine.weight, before)
    mine.eval()
    assert build_model(lambda: mine) is mine


def broken() -> nn.Module:
    raise KeyError("two\nlines")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (broken, r"broken: the model source raises KeyError: .*two"),
        (lambda: 3, "returns a int"),
        (nn.Linear(2, 2), "is a module, not something that builds one"),
        (TorchvisionModel, "raises TypeError"),
        (3, "raises TypeError"),
    ],
)
def test_sources_that_build_no_model_are_refused(source: object, said: str) -> None:
    with pytest.raises(SuiteError, match=said) as caught:
        build_model(source)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_nan_from_a_callable_is_refused_too() -> None:
    def poisoned() -> nn.Module:
        model = nn.Sequential(nn.Linear(2, 2))
        nn.init.constant_(model[0].bias, float("nan"))
        return model

    with pytest.raises(WeightsError, match="poisoned: bias of layer 0 holds NaN"):
        build_model(poisoned)


def test_nan_in_a_weights_file_is_refused(tmp_path: Path, small: nn.Module) -> None:
    state = {k: v.clone() for k, v in small.state_dict().items()}
    state["features.3.block.0.0.weight"].view(-1)[5] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(WeightsError, match=r"nan\.safetensors: weight of layer features\.3\.block\.0\.0 holds NaN"):
        SMALL.build(tmp_path / "nan.safetensors")
