from dataclasses import replace

import pytest

from pytest_ptq.metrics import ACCURACY_DROP, LATENCY_RATIO, SIZE_REDUCTION, Measurement
from pytest_ptq.store.audit import Known, audit, orphans
from pytest_ptq.store.baselines import Baselines

KEY, OTHER = "avx2/onednn/2t/torch2.15", "avx512_vnni/onednn/2t/torch2.15"
GATED = (ACCURACY_DROP, SIZE_REDUCTION)
KNOWN = Known(
    kinds=("embedded", "imagenet"), qconfigs=("x86", "minmax"), data="embedded", machine_key=KEY, metrics=GATED
)


@pytest.fixture
def whole(tmp_path, monkeypatch):
    """A file that says all that the suite needs."""
    monkeypatch.chdir(tmp_path)
    made = Baselines.empty(tmp_path / "net.json")
    for qconfig in KNOWN.qconfigs:
        made = with_records(made.with_limits("embedded", qconfig, dict.fromkeys(GATED, 1.0)), qconfig)
    return made


def with_records(baselines, qconfig, key=KEY, data="embedded"):
    return baselines.with_recorded(data, key, qconfig, [Measurement(metric, 1.0) for metric in GATED])


def test_nothing_is_said_of_a_file_that_fits(whole):
    assert audit(whole, KNOWN) == []


def test_a_qconfig_that_is_gone_is_named_once_with_its_line(whole):
    more = whole.with_limits("embedded", "old", {ACCURACY_DROP: 1.0})
    more = with_records(more, "old")
    (note,) = audit(more, KNOWN)
    place, _, rest = note.partition(": ")
    assert '"old": {' in more.text.splitlines()[int(place.rpartition(":")[2]) - 1]
    assert rest.startswith("stale: suite net has no qconfig 'old' (it has x86, minmax)")


@pytest.mark.parametrize("part", ["recorded", "xfail"])
def test_wherever_a_gone_qconfig_stands_it_is_found(whole, part):
    if part == "recorded":
        more = with_records(whole, "old", OTHER)
    else:
        text = whole.text.replace('"limits": {', '"xfail": {"old": {"latency_ratio": "slow"}}, "limits": {')
        more = Baselines.parse(text, whole.path)
    (note,) = audit(more, KNOWN)
    assert "no qconfig 'old'" in note


def test_a_qconfig_of_a_test_of_the_users_own_is_not_stale(whole):
    more = whole.with_limits("embedded", "mine", {ACCURACY_DROP: 1.0})
    assert audit(more, replace(KNOWN, judged={("mine", ACCURACY_DROP.key)})) == []


def test_data_that_the_suite_no_longer_has(whole):
    more = with_records(whole, "old", data="coco")
    (note,) = audit(more, KNOWN)
    assert "stale: suite net has no data 'coco' (it has embedded, imagenet)" in note
    assert note.startswith("net.json:")


def test_other_data_of_the_suite_is_not_stale_and_not_missing(whole):
    assert audit(with_records(whole, "x86", data="imagenet"), KNOWN) == []


def test_limits_that_are_missing_are_named_unless_a_gate_told_so(whole):
    known = replace(KNOWN, qconfigs=("x86", "new"), metrics=(ACCURACY_DROP,))
    more = with_records(whole, "new")
    notes = audit(more, known)
    assert [note for note in notes if "missing" in note] == [
        "net.json:5: missing: no limit for accuracy_drop_pp of new on embedded data; "
        "--ptq-update-baseline new writes defaults"
    ]
    assert not [n for n in audit(more, replace(known, judged={("new", ACCURACY_DROP.key)})) if "missing" in n]


def test_a_machine_without_records_is_one_note(whole):
    (note,) = audit(whole, replace(KNOWN, machine_key=OTHER))
    assert note == (
        f"net on embedded data: nothing recorded for {OTHER} (recorded: {KEY}): limits were judged, drift was not; "
        "--ptq-update-baseline new records it"
    )


def test_no_records_at_all_is_one_note_too(tmp_path):
    limited = Baselines.empty(tmp_path / "net.json")
    for qconfig in KNOWN.qconfigs:
        limited = limited.with_limits("embedded", qconfig, dict.fromkeys(GATED, 1.0))
    (note,) = audit(limited, KNOWN)
    assert "nothing recorded for avx2/onednn/2t/torch2.15 (recorded: none)" in note


def test_what_one_qconfig_lacks_is_named(whole):
    known = replace(KNOWN, qconfigs=("x86", "new"), metrics=(*GATED, LATENCY_RATIO))
    more = whole.with_limits("embedded", "new", dict.fromkeys(known.metrics, 1.0))
    more = more.with_limits("embedded", "x86", {LATENCY_RATIO: 1.0})
    notes = [note for note in audit(more, known) if "missing" in note]
    assert [note.partition(", drift")[0] for note in notes] == [
        f"net on embedded data: missing: no latency_ratio recorded for x86 on {KEY}",
        f"net on embedded data: missing: nothing recorded for new on {KEY}",
    ]


def test_a_file_without_a_suite_is_stale(whole, tmp_path):
    folder, suites = tmp_path / "baselines", tmp_path / "suites"
    folder.mkdir()
    suites.mkdir()
    for name in ("net", "gone", "called_otherwise", ".hidden"):
        (folder / f"{name}.json").write_text(whole.text.replace('"suite": "net"', f'"suite": "{name}"'))
    (folder / "notes.json").write_text('{"of": "somebody"}')
    (folder / "damaged.json").write_text("{")
    source = suites / "file.py"
    source.write_text("suite = Suite(name='called_otherwise', ...)")
    missing = suites / "absent.py"
    assert orphans(folder, {"net"}, [source, missing]) == [
        "baselines/gone.json: stale: no suite is called 'gone'; delete the file if its suite is gone"
    ]
    assert orphans(tmp_path / "absent", {"net"}, []) == []


def test_another_runtime_is_known_by_its_own_machine_key(whole):
    own = "avx2/openvino/2t/openvino2026.4"
    placed = replace(KNOWN, qconfigs=("x86", "x86-openvino"), keys={"x86-openvino": own}, declared=("x86", "minmax"))
    (note,) = audit(whole, placed)
    assert f"nothing recorded for {own} (recorded: {KEY})" in note, "limits are those of x86"
    recorded = with_records(whole, "x86-openvino", own)
    assert audit(recorded, placed) == []
    (note,) = audit(recorded, replace(placed, keys={"x86-openvino": OTHER}))
    assert f"nothing recorded for {OTHER}" in note
    assert audit(recorded, KNOWN) == [], "what ran elsewhere in another run is not stale"


def test_what_a_gate_does_not_ask_of_a_qconfig_is_not_missing(whole):
    more = replace(KNOWN, metrics=(*GATED, LATENCY_RATIO))
    assert len(audit(whole, more)) == 4
    assert audit(whole, replace(more, unasked={(q, LATENCY_RATIO.key) for q in KNOWN.qconfigs})) == []
