"""The int8 model as a file: bit-identical after a reload, written whole or not at all."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision import models

from engine.files import rewrite
from engine.nets import Net, conv, images, partly_fp32_net, randomize, residual_net, run
from pytest_ptq import engine
from pytest_ptq.engine import artifact, kernels
from pytest_ptq.errors import StoreError


def mobilenet() -> nn.Module:
    return randomize(models.mobilenet_v3_small(num_classes=10))


def attention() -> nn.Module:
    """Layers with children, buffers, constants and keyword arguments, all left in fp32."""

    def compute(m: Net, x: Tensor) -> Tensor:
        x = m.act(m.norm(m.conv(x)))
        x = x.flatten(2).transpose(1, 2)
        q, k, v = m.qkv(x).chunk(3, dim=-1)
        x = F.scaled_dot_product_attention(q, k, v, is_causal=False) + x
        return F.pad(x[:, 1:, None].mean(1), (0, 1), value=0.5)

    return Net(
        compute, conv=conv(3, 16, stride=4), norm=nn.BatchNorm2d(16, momentum=None), act=nn.LeakyReLU(0.1),
        qkv=nn.Linear(16, 48),
    )  # fmt: skip


def torchs_own() -> nn.Module:
    """Layers of torch.nn that keep private attributes and children of private classes."""

    def compute(m: Net, x: Tensor) -> Tensor:
        torch._assert(x.shape[1] == 3, "three channels")
        x = m.mirrored(m.conv(x)).flatten(2).transpose(1, 2)
        return m.attention(x, x, x, need_weights=False)[0]

    return Net(
        compute, conv=conv(3, 8, stride=4), mirrored=conv(8, 8, padding_mode="reflect"),
        attention=nn.MultiheadAttention(8, 2, batch_first=True),
    )  # fmt: skip


MODELS = {
    "torch's own": torchs_own,
    "residual": residual_net,
    "partly fp32": partly_fp32_net,
    "mobilenet": mobilenet,
    "attention": attention,
}


@pytest.mark.parametrize("qconfig", ["x86", "minmax"])
@pytest.mark.parametrize("name", MODELS)
def test_a_reload_is_bit_identical(name: str, qconfig: str, tmp_path: Path) -> None:
    size = 32 if name == "mobilenet" else 16
    quantized = engine.quantize(MODELS[name](), [images(2, size)], qconfig)
    path = engine.save(quantized, tmp_path / "deep" / "folder" / "model.safetensors")
    loaded = engine.load(path)
    for batch in (1, 3):
        x = images(batch, size, seed=batch)
        assert torch.equal(run(loaded, x), run(quantized, x))
    assert str(loaded) == str(quantized)
    assert not loaded.training


@pytest.mark.parametrize("name", MODELS)
def test_a_fused_model_reloads_bit_identically_and_can_be_frozen(name: str, tmp_path: Path) -> None:
    size = 32 if name == "mobilenet" else 16
    fused = engine.fuse(MODELS[name]())
    loaded = engine.load(engine.save(fused, tmp_path / "fused.safetensors"))
    x = images(2, size)
    assert torch.equal(run(loaded, x), run(fused, x))
    assert torch.equal(run(engine.freeze(loaded), x), run(engine.freeze(fused), x))
    assert str(loaded) == str(fused)


def test_a_reload_knows_what_to_overwrite(tmp_path: Path) -> None:
    model = Net(lambda m, x: m.c(m.b(y := m.a(x))) + y, a=conv(3, 8), b=conv(8, 8), c=conv(8, 8))
    quantized = engine.quantize(model, [images()])
    loaded = engine.load(engine.save(quantized, tmp_path / "m.safetensors"))
    assert loaded.c.overwrites is quantized.c.overwrites is True


def test_what_was_loaded_can_be_saved_again(tmp_path: Path) -> None:
    first = engine.save(engine.quantize(residual_net(), [images()]), tmp_path / "a.safetensors")
    loaded = engine.load(first)
    assert engine.save(loaded, tmp_path / "b.safetensors").read_bytes() == first.read_bytes()
    assert engine.size_mb(loaded) * 1e6 == first.stat().st_size


def test_its_size_is_what_is_measured_and_about_a_quarter(tmp_path: Path) -> None:
    model = models.resnet18(num_classes=10).eval()
    quantized = engine.quantize(model, [images(1, 32)])
    path = engine.save(quantized, tmp_path / "m.safetensors")
    assert artifact.serialized_bytes(quantized) == path.stat().st_size
    assert 3.7 < artifact.serialized_bytes(model) / path.stat().st_size < 4.05


@pytest.mark.parametrize(
    ("compute", "message"),
    [
        (lambda m, x: torch.linalg.matrix_norm(m.conv(x)), "matrix_norm: the function .* cannot be stored"),
        (lambda m, x: m.conv(x).erfinv(), "erfinv: the method erfinv cannot be stored"),
        (lambda m, x: m.own(m.conv(x)), "own: a Own cannot be stored.*Only layers of torch.nn"),
    ],
)
def test_what_cannot_be_stored_says_so(compute: Callable[..., Tensor], message: str, tmp_path: Path) -> None:
    class Own(nn.GELU):
        __module__ = "torch.nn"  # so that the tracer takes it for a layer

    quantized = engine.quantize(Net(compute, conv=conv(3, 4), own=Own()), [images()])
    with pytest.raises(StoreError, match=message):
        engine.save(quantized, tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def test_only_an_int8_model_is_saved(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"save was given a Net\. Give it what quantize, convert or fuse returned"):
        engine.save(residual_net(), tmp_path / "m.safetensors")  # type: ignore[arg-type]


def test_a_failure_leaves_the_old_file_and_no_other(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(StoreError, match=r"model\.safetensors: cannot write the model: No space left on device"):
        engine.save(engine.quantize(residual_net(), [images()]), saved)
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_others_may_read_it_as_they_may_read_any_new_file(saved: Path) -> None:
    plain = saved.with_name("plain")
    plain.write_bytes(b"")
    assert saved.stat().st_mode == plain.stat().st_mode


def test_an_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write the model"):
        engine.save(engine.quantize(residual_net(), [images()]), tmp_path / "file" / "m.safetensors")


def test_another_torch_is_warned_of(saved: Path) -> None:
    rewrite(saved, lambda graph: graph["environment"].update(torch="1.13.0"))
    with pytest.warns(UserWarning, match="was made with torch 1.13.0"):
        engine.load(saved)


def test_what_it_was_made_with_is_recorded(saved: Path) -> None:
    found: dict[str, object] = {}
    rewrite(saved, lambda graph: found.update(graph["environment"]))
    assert found == {
        "torch": torch.__version__, "engine": "onednn", "isa": torch.backends.cpu.get_cpu_capability(),
        "vnni": not kernels.saturates_int16(), "reduce_range": kernels.saturates_int16(), "qconfig": "x86",
    }  # fmt: skip


@pytest.mark.parametrize("vnni", [True, False])
@pytest.mark.parametrize("reduced", [True, False])
@pytest.mark.parametrize("made", [True, False, None])
def test_a_model_of_kernels_that_saturate_is_told_from_one_of_those_that_do_not(
    saved: Path, monkeypatch: pytest.MonkeyPatch, vnni: bool, reduced: bool, made: bool | None
) -> None:
    """With reduce_range no sum reaches the ends of int16, and both give the same answers; old files do not say."""

    def change(graph: dict[str, Any]) -> None:
        graph["environment"].update(reduce_range=reduced, vnni=made)
        if made is None:
            del graph["environment"]["vnni"]

    rewrite(saved, change)
    monkeypatch.setattr(kernels, "saturates_int16", lambda: not vnni)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        engine.load(saved)
    expected = []
    if not reduced and not vnni:
        expected = ["made without reduce_range, and this CPU's kernels saturate in int16"]
    elif not reduced and made is False:
        expected = ["made without reduce_range by kernels that saturate in int16, and those here do not"]
    assert [part in str(w.message) for w, part in zip(caught, expected, strict=True)] == [True] * len(expected)


@pytest.mark.parametrize(("name", "other"), [("isa", "AVX2000"), ("engine", "fbgemm")])
def test_another_cpu_or_engine_is_warned_of(saved: Path, name: str, other: str) -> None:
    rewrite(saved, lambda graph: graph["environment"].update({name: other}))
    with pytest.warns(UserWarning, match=rf"was made with {other}, here is \w+: it may answer otherwise") as caught:
        engine.load(saved)
    assert len(caught) == 1


@pytest.mark.parametrize(("reduced", "saturates"), [(True, True), (True, False), (False, True), (False, False)])
def test_a_cpu_that_saturates_is_warned_of(
    saved: Path, reduced: bool, saturates: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rewrite(saved, lambda graph: graph["environment"].update(reduce_range=reduced))
    monkeypatch.setattr(kernels, "saturates_int16", lambda: saturates)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        engine.load(saved)
    assert [("made without reduce_range" in str(w.message)) for w in caught] == (
        [True] if saturates and not reduced else []
    )
