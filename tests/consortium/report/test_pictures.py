"""Pictures as files: all of the page's, each complete in itself."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from consortium.common.errors import RunDirectoryError
from consortium.records.directory import RunDirectory
from consortium.report.page import Report, read_report
from consortium.report.pictures import write_pictures
from consortium.report.sections import retention

SVG = "{http://www.w3.org/2000/svg}"


def texts(path: Path) -> list[str]:
    return ["".join(each.itertext()).strip() for each in ElementTree.parse(path).iter(f"{SVG}text")]


@pytest.fixture(scope="module")
def report(finished: RunDirectory) -> Report:
    """Drawn once for all tests here."""
    return read_report(finished)


def test_every_picture_of_the_page_becomes_a_file(report: Report, tmp_path: Path) -> None:
    files = write_pictures(report, tmp_path / "new" / "pictures")
    page = report.path.read_text(encoding="utf-8")
    assert len(files) == len(set(files)) == page.count("<figure>") > 5
    assert sorted(files) == sorted((tmp_path / "new" / "pictures").iterdir())


ARMS = ["global", "collabedit", "task_arithmetic", "simple_average", "ties"]


def test_each_is_a_picture_with_its_title(report: Report, tmp_path: Path) -> None:
    for path in write_pictures(report, tmp_path):
        assert texts(path)[0]
        width, height = map(float, ElementTree.parse(path).getroot().attrib["viewBox"].split()[2:])
        assert 100 < width < 1000
        assert 50 < height < 1500


def test_curves_have_a_legend_and_what_names_its_arms_has_none(report: Report, tmp_path: Path) -> None:
    files = {path.name: path for path in write_pictures(report, tmp_path)}
    assert texts(files["over-the-rounds-efficacy.svg"])[-5:] == ARMS
    assert texts(files["where-time-went-work-by-phase.svg"]).count("collabedit") == 1
    assert not set(ARMS) & set(texts(files["where-time-went-who-worked-when.svg"]))


def test_heat_maps_are_named_by_their_arms(report: Report, tmp_path: Path) -> None:
    names = [path.name for path in write_pictures(report, tmp_path)]
    assert "what-holds-of-each-round-collabedit.svg" in names
    assert "what-holds-of-each-round-ties.svg" in names


def test_a_heavy_picture_is_written_as_pixels(
    finished: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_MOST_SVG_CELLS", 1)
    files = {path.name: path for path in write_pictures(read_report(finished), tmp_path)}
    assert files["what-holds-of-each-round-ties.png"].read_bytes().startswith(b"\x89PNG")


def test_names_that_files_cannot_tell_apart_are_numbered(invent, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """Labels are letters, digits and . _ - by schema; two arms that a file name cannot tell apart are numbered."""
    methods = ({"name": "collabedit", "label": "a.b"}, {"name": "collabedit", "label": "a-b"})
    names = [path.name for path in write_pictures(read_report(invent(methods=methods)), tmp_path)]
    assert {"what-holds-of-each-round-a-b.svg", "what-holds-of-each-round-a-b-2.svg"} <= set(names)


def test_a_folder_that_cannot_be_made_is_refused(report: Report, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunDirectoryError, match="cannot be written"):
        write_pictures(report, tmp_path / "file" / "pictures")
