from __future__ import annotations

from pathlib import Path

import pytest

from tests.remargin.desk import Desk


@pytest.fixture
def desk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Desk:
    monkeypatch.setenv("REMARGIN_HOME", str(tmp_path / "out"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    # Where tests run side by side, the screen may be narrower than where they run alone.
    monkeypatch.setenv("COLUMNS", "120")
    return Desk(tmp_path, capsys)
