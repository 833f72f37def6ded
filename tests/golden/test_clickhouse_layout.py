"""The schema of every signal on a cluster, derived from the one set of SQL files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.shared.clickhouse.layout import Layout

ROOT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent / "clickhouse"
FILES = sorted(path for signal in ("logs", "metrics", "traces") for path in ROOT.glob(f"services/{signal}/store/sql/*"))
LAYOUTS = {"replicated": Layout("shop"), "sharded": Layout("shop", replicated=False)}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_a_cluster_has_the_same_tables(layout: str, path: Path) -> None:
    text = ";\n\n".join(LAYOUTS[layout].statements(path.read_text())) + ";\n"
    file = FOLDER / f"{path.parts[-4]}_{path.stem}.{layout}.sql"
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
    assert text == file.read_text()


def test_there_are_no_other_golden_files() -> None:
    names = {f"{path.parts[-4]}_{path.stem}.{layout}.sql" for path in FILES for layout in LAYOUTS}
    assert {path.name for path in FOLDER.iterdir()} == names


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parts[-4]}-{path.stem}")
def test_one_server_has_the_files_as_they_are(path: Path) -> None:
    text = path.read_text()
    assert ";\n".join(Layout().statements(text)) == ";\n".join(
        part.strip().rstrip(";") for part in text.split(";\n") if part.strip()
    )
