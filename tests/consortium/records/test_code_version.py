import subprocess
import sys
from pathlib import Path

import consortium
import pytest
from consortium.records import code_version
from consortium.records.code_version import Code, differences, read_code, source_digest, this_code
from ray import cloudpickle

MINE: Code = {
    "place": "/here/consortium",
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "files": {"consortium/worker.py": "a" * 64, "consortium/rounds.py": "b" * 64},
}


def changed(**parts: object) -> Code:
    return {**MINE, **parts}  # type: ignore[typeddict-item]


def test_every_source_file_counts_and_nothing_else():
    code = read_code()
    folder = Path(consortium.__file__).parent
    assert code["place"] == str(folder)
    ours = {name for name in code["files"] if name.startswith("consortium/")}
    assert {f"consortium/{path.relative_to(folder).as_posix()}" for path in folder.rglob("*.py")} <= ours
    assert "consortium_ray/workers/worker_actor.py" in code["files"]
    assert not [name for name in code["files"] if name.endswith(".pyc") or "/scenarios/" in name]
    assert code["versions"]["consortium"] == consortium.__version__
    assert {"python", "torch", "transformers", "ray", "numpy"} <= code["versions"].keys()


def test_a_process_keeps_what_it_read_first():
    assert this_code() is this_code()
    assert source_digest() == source_digest(this_code()) == source_digest(read_code())


@pytest.mark.parametrize(
    "files",
    [
        {"consortium/worker.py": "c" * 64, "consortium/rounds.py": "b" * 64},
        {"consortium/worker.py": "a" * 64},
        {"consortium/worker.py": "b" * 64, "consortium/rounds.py": "a" * 64},
    ],
)
def test_a_changed_a_missing_and_two_exchanged_files_give_other_digests(files):
    assert source_digest(changed(files=files)) != source_digest(MINE)


def test_what_differs_is_said_of_both_sides():
    assert differences(MINE, changed()) == []
    files = {**MINE["files"], "consortium/worker.py": "c" * 64}
    theirs = changed(place="/there", files=files, versions={"python": "3.11.7", "torch": "2.12.0", "ray": "2.60.0"})
    source, ray, torch = differences(MINE, theirs)
    assert "/here/consortium against" in source
    assert "in /there (consortium/worker.py)" in source
    assert ray == "ray none against 2.60.0"
    assert torch == "torch 2.13.0 against 2.12.0"


def test_many_files_are_named_by_the_first_few():
    files = {f"consortium/{number}.py": "d" * 64 for number in range(9)}
    (said,) = differences(changed(files={}), changed(files=files))
    assert "(consortium/0.py, consortium/1.py, consortium/2.py and 6 more)" in said


def test_it_answers_in_a_process_without_consortium(tmp_path):
    """Its code travels by value: the other side may have other code, or none."""
    cloudpickle.register_pickle_by_value(code_version)
    try:
        (tmp_path / "sent").write_bytes(cloudpickle.dumps(read_code))
    finally:
        cloudpickle.unregister_pickle_by_value(code_version)
    hidden = "import sys; sys.path = [place for place in sys.path if not place.endswith(('platform', 'actors'))]\n"
    hidden += "sys.meta_path = [each for each in sys.meta_path if 'editable' not in str(each)]\n"
    asked = "import pickle; print(pickle.load(open('sent', 'rb'))())"
    out = subprocess.run(
        [sys.executable, "-c", hidden + asked], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert "'place': ''" in out.stdout
    assert "'files': {}" in out.stdout
