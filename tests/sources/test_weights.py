from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from pytest_ptq.errors import WeightsError
from pytest_ptq.sources.weights import check_finite, load_into, read_state_dict


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


class Touch:
    """Pickles to code that would create a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_safetensors_and_torch_files_give_the_same(tmp_path: Path) -> None:
    state = model().state_dict()
    save_file(state, tmp_path / "w.safetensors")
    torch.save(state, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        read = read_state_dict(tmp_path / name)
        assert read.keys() == state.keys()
        assert all(torch.equal(read[k], state[k]) for k in state)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_training_checkpoints_are_understood(tmp_path: Path, key: str, prefix: str) -> None:
    state = model().state_dict()
    checkpoint = {"epoch": 3, key: {f"{prefix}{k}": v for k, v in state.items()}, "optimizer": {"lr": 0.1}}
    torch.save(checkpoint, tmp_path / "w.ckpt")
    assert read_state_dict(tmp_path / "w.ckpt").keys() == state.keys()


def test_a_module_called_model_is_not_taken_for_a_nested_state_dict(tmp_path: Path) -> None:
    torch.save({"model": torch.ones(2), "module.x": torch.ones(1)}, tmp_path / "w.pth")
    assert read_state_dict(tmp_path / "w.pth").keys() == {"model", "module.x"}


def test_code_in_a_checkpoint_never_runs(tmp_path: Path) -> None:
    torch.save({"state_dict": Touch(tmp_path / "owned")}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match=r"a pickled Python object \(posix\.mkdir\).*was not loaded") as caught:
        read_state_dict(tmp_path / "evil.pth")
    assert not (tmp_path / "owned").exists()
    assert "\n" not in str(caught.value)


def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "script.pth", "w") as archive:
        archive.writestr("script/constants.pkl", b"\x80\x02).")
        archive.writestr("script/version", "3\n")
    with pytest.raises(WeightsError, match="a TorchScript program"):
        read_state_dict(tmp_path / "script.pth")


def test_a_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(model(), tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules.*Save `model\.state_dict\(\)`"):
        read_state_dict(tmp_path / "whole.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + b"\0" * 100, b"\x80\x02}q\0."])
def test_damaged_files_are_one_sentence(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=r"w\.(pth|safetensors): ") as caught:
        read_state_dict(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_a_truncated_file_is_one_sentence(tmp_path: Path, name: str) -> None:
    whole = tmp_path / name
    save_file(model().state_dict(), whole) if name.endswith("safetensors") else torch.save(model().state_dict(), whole)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_state_dict(whole)


@pytest.mark.parametrize(
    ("content", "said"),
    [([1, 2], "holds a list"), ({}, "holds nothing"), ({"a": torch.ones(1), "b": 3}, "not plain tensors: b")],
)
def test_something_else_than_a_state_dict_is_refused(tmp_path: Path, content: object, said: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=said):
        read_state_dict(tmp_path / "w.pth")


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.pth", tmp_path):
        with pytest.raises(WeightsError, match="there is no such file"):
            read_state_dict(path)


def test_half_precision_becomes_float() -> None:
    target = model()
    state = {k: v.half() if v.is_floating_point() else v for k, v in model().state_dict().items()}
    load_into(target, state, "here")
    assert all(p.dtype == torch.float32 for p in target.parameters())
    assert torch.equal(target[0].weight, state["0.weight"].float())


def test_every_misfit_is_named_and_nothing_is_loaded() -> None:
    target = model()
    before = {k: v.clone() for k, v in target.state_dict().items()}
    state = {k: v + 1 for k, v in before.items()}
    state["3.weight"] = torch.zeros(5, 4)
    del state["0.bias"]
    state |= {f"extra.{i}": torch.zeros(1) for i in range(5)}
    with pytest.raises(WeightsError) as caught:
        load_into(target, state, "w.pth")
    text = str(caught.value)
    assert "missing: 0.bias" in text
    assert "unexpected: extra.0, extra.1, extra.2 and 2 more" in text
    assert "3.weight (5, 4) instead of (2, 4)" in text
    assert all(torch.equal(v, before[k]) for k, v in target.state_dict().items())


def test_old_checkpoints_without_a_batch_counter_fit() -> None:
    state = {k: v for k, v in model().state_dict().items() if "num_batches" not in k}
    load_into(model(), state, "here")


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("0.weight", float("nan"), "weight of layer 0 holds NaN (1 of 108 values)"),
        ("1.running_var", float("inf"), "running_var of layer 1 holds infinity (1 of 4 values)"),
        ("3.bias", float("-inf"), "bias of layer 3 holds infinity (1 of 2 values)"),
    ],
)
def test_values_that_are_not_finite_name_their_layer(key: str, value: float, said: str) -> None:
    broken = model()
    check_finite(broken)
    broken.state_dict()[key].view(-1)[0] = value
    with pytest.raises(WeightsError) as caught:
        check_finite(broken, "w.pth")
    assert said in str(caught.value)
    assert caught.value.place == "w.pth"
