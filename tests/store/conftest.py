"""What several tests of the store begin with."""

from __future__ import annotations

import pytest

from store.files import TEXT


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "baselines").mkdir()
    file = tmp_path / "baselines" / "net.json"
    file.write_text(TEXT)
    return file
