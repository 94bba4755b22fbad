"""Which layers a runtime computes in int8, told from its kernels; what is not known does not count in its favour."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pytest_ptq.runtimes import Kernel, KernelCounts
from pytest_ptq.runtimes.matching import Verified, verify

MACS = {"a": 100, "b": 10, "c": 1}
NODES = {"/x/Conv": "a", "/x/Conv_output_0": "a", "/x/Conv_1": "b", "/fc/Gemm": "c", "output": "c"}


def counts(*kernels: tuple[str, bool]) -> KernelCounts:
    made = [Kernel(name, "Conv", int8, True, (name,)) for name, int8 in kernels]
    return KernelCounts((*made, Kernel("/x/Conv/Relu", "Relu", False, False, ("/x/Conv/Relu",))))


def test_every_kernel_carries_the_name_of_its_layer() -> None:
    found = counts(("/x/Conv_token_3", True), ("/x/Conv_1/WithoutBiases", True), ("output_original", True))
    assert verify(MACS, NODES, found) == Verified((), 0)


def test_the_longest_name_is_the_layers() -> None:
    found = counts(("/x/Conv", True), ("/x/Conv_1_nchwc", False), ("/fc/Gemm", True))
    assert verify(MACS, NODES, found) == Verified(("b",), 10)


def test_a_name_that_only_begins_alike_is_another() -> None:
    found = counts(("/x/Convolution", True), ("/x/Conv_1", True), ("/fc/Gemm", True))
    # It may be the layer's, or not: it is an int8 kernel without a layer, and there is one layer without a kernel.
    assert verify(MACS, NODES, found) == Verified((), 0)
    assert verify(MACS, NODES, counts(("/x/Convolution", False), ("/x/Conv_1", True), ("/fc/Gemm", True))).layers == (
        "a",
    )


def test_kernels_without_a_name_stand_for_the_smallest_layers() -> None:
    assert verify(MACS, NODES, counts(("", True), ("", True))) == Verified(("a",), 100)
    assert verify(MACS, NODES, counts(("", True))) == Verified(("a", "b"), 110)
    assert verify(MACS, NODES, counts(("", False))) == Verified(("a", "b", "c"), 111)
    assert verify(MACS, NODES, counts()) == Verified(("a", "b", "c"), 111)


def test_a_layer_of_which_one_kernel_is_float_is_not_believed() -> None:
    found = counts(("/x/Conv", True), ("/x/Conv_output_0", False), ("/x/Conv_1", True), ("/fc/Gemm", True))
    assert verify(MACS, NODES, found) == Verified(("a",), 100)


def test_what_is_not_quantized_is_nobodys_concern() -> None:
    found = counts(("/x/Conv", True), ("/x/Conv_1", False), ("/fc/Gemm", False))
    assert verify({"a": 100}, NODES, found) == Verified((), 0)


layers = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 1000))


@given(layers, st.data())
def test_never_more_than_there_are_int8_kernels(macs: dict[str, int], data: st.DataObject) -> None:
    nodes = {f"/{layer}/Conv": layer for layer in macs}
    flags = data.draw(st.lists(st.booleans(), max_size=10))
    names = [data.draw(st.sampled_from(["", *nodes])) for _ in flags]
    found = verify(macs, nodes, counts(*zip(names, flags, strict=True)))
    assert len(macs) - len(found.layers) <= sum(flags)
    assert found.missing == sum(macs[layer] for layer in found.layers)
    assert list(found.layers) == [layer for layer in macs if layer in found.layers], "in the order of the graph"
