"""Targets on disk: the same bits come back, any change is a miss, damage is seen, and runs share a folder.

Shapes: E edits, V hidden width.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from consortium.data.edit import Edit, Neighbor
from consortium.editing import fingerprint as identity
from consortium.editing.backend import Targets
from consortium.editing.language import LanguageBackend
from consortium.editing.target_cache import TargetCache
from consortium.models.language import LanguageModel, language_model
from consortium.scenario.editor import ContextsSpec, EditorSpec, MemitSpec, TargetSpec
from support.pico import pico_model, pico_tokenizer

EDITOR = MemitSpec(
    layers=(0, 1), residual_schedule="spread", contexts=ContextsSpec(count=2), target=TargetSpec(steps=3)
)
EDITS = (
    Edit("one", "r", "Eiffel Tower", "The {} is in the city of", "Rome", "Paris"),
    Edit("two", "r", "Peru", "The capital of {} is", "Tokyo", "Lima"),
)
CONTEXTS = ("{}", "I was born in London. {}")


def backend_of(model: LanguageModel | None = None, editor: EditorSpec = EDITOR) -> LanguageBackend:
    backend = LanguageBackend(model or pico_model("llama"), editor, seed=1)
    backend.set_contexts(CONTEXTS)
    return backend


def targets_like(value: float, num_edits: int = 2, width: int = 32) -> Targets:
    losses, shifts = (0.25 + value,) * num_edits, (0.5 + value,) * num_edits
    return Targets(1, torch.full((num_edits, width), value), (3,) * num_edits, losses, shifts)


@pytest.fixture
def cache(tmp_path: Path) -> TargetCache:
    return TargetCache(tmp_path)


PRINT: dict[str, object] = {"layer": 1, "edits": "these"}


class TestWhatComesBack:
    def test_is_what_was_stored_bit_for_bit(self, cache: TargetCache) -> None:
        backend = backend_of()
        fingerprint, made = backend.targets_fingerprint(EDITS, 1), backend.targets(EDITS, 1)
        cache.store(fingerprint, made)
        read = cache.load(backend_of().targets_fingerprint(EDITS, 1))
        assert read is not None
        assert read.vectors_EV.numpy().tobytes() == made.vectors_EV.numpy().tobytes()
        assert (read.vectors_EV.dtype, read.vectors_EV.is_contiguous()) == (torch.float32, True)
        assert read.vectors_EV.data_ptr() % 64 == 0, "as in memory of torch's own"
        assert (read.layer, read.num_steps, read.losses) == (made.layer, made.num_steps, made.losses)

    def test_is_nothing_where_nothing_was_stored(self, cache: TargetCache) -> None:
        assert cache.load(PRINT) is None

    def test_a_fingerprint_changes_neither_weights_nor_targets(self) -> None:
        backend = backend_of()
        backend.load_weights({0: 2 * backend.base_weights()[0]})
        before = backend.model.weights_hash()
        backend.targets_fingerprint(EDITS, 1)
        assert backend.model.weights_hash() == before


def _edited(**changes: Any) -> Callable[[], dict[str, object]]:
    return lambda: backend_of().targets_fingerprint((replace(EDITS[0], **changes), EDITS[1]), 1)


def _set(**changes: Any) -> Callable[[], dict[str, object]]:
    editor = EDITOR.model_copy(update={"target": EDITOR.target.model_copy(update=changes)})
    return lambda: backend_of(editor=editor).targets_fingerprint(EDITS, 1)


def _weights(layer: int, scale: float = 2) -> dict[str, object]:
    backend = backend_of()
    backend.load_weights({layer: scale * backend.base_weights()[layer]})
    return backend.targets_fingerprint(EDITS, 1)


def _nudged(name: str) -> dict[str, object]:
    """One number of a parameter is the next float."""
    model = pico_model("llama")
    with torch.no_grad():
        parameter = model.model.get_parameter(name).view(-1)
        parameter[5] = torch.nextafter(parameter[5], torch.tensor(9.0))
    return backend_of(model).targets_fingerprint(EDITS, 1)


def _config(**changes: Any) -> dict[str, object]:
    model = pico_model("llama")
    model.model.config.update(changes)
    return backend_of(model).targets_fingerprint(EDITS, 1)


def _contexts(*contexts: str) -> dict[str, object]:
    backend = backend_of()
    backend.set_contexts(contexts)
    return backend.targets_fingerprint(EDITS, 1)


CHANGES: dict[str, Callable[[], dict[str, object]]] = {
    "a number of the embedding": lambda: _nudged("model.embed_tokens.weight"),
    "a number of a frozen layer": lambda: _nudged("model.layers.2.mlp.down_proj.weight"),
    "a number of an edited layer": lambda: _nudged("model.layers.1.mlp.down_proj.weight"),
    "a number of an edited layer's other weights": lambda: _nudged("model.layers.1.mlp.up_proj.weight"),
    "the weights merged into the first layer": lambda: _weights(0),
    "the weights merged into the layer itself": lambda: _weights(1),
    "the config": lambda: _config(rms_norm_eps=1e-3),
    "the way of attention": lambda: _config(attn_implementation="eager"),
    "the tokenizer": lambda: backend_of(
        language_model(pico_model("llama").model, pico_tokenizer(bos=True))
    ).targets_fingerprint(EDITS, 1),
    "the type of numbers": lambda: backend_of(pico_model("llama", dtype=torch.bfloat16)).targets_fingerprint(EDITS, 1),
    "the layer": lambda: backend_of().targets_fingerprint(EDITS, 0),
    "a subject": _edited(subject="Eiffel tower"),
    "a prompt": _edited(prompt="The {} stands in the city of"),
    "a target": _edited(target_new="Lyon"),
    "an edit less": lambda: backend_of().targets_fingerprint(EDITS[:1], 1),
    "the order of edits": lambda: backend_of().targets_fingerprint(EDITS[::-1], 1),
    "a context": lambda: _contexts("{}", "I was born in Lyon. {}"),
    "a context more": lambda: _contexts(*CONTEXTS, "So. {}"),
    "steps": _set(steps=4),
    "learning_rate": _set(learning_rate=0.41),
    "stop_loss": _set(stop_loss=0.04),
    "kl_weight": _set(kl_weight=0.06),
    "weight_decay": _set(weight_decay=0.4),
    "clamp": _set(clamp=0.7),
    "arithmetic": _set(arithmetic="another"),
}


@pytest.fixture(scope="module")
def known() -> dict[str, object]:
    return backend_of().targets_fingerprint(EDITS, 1)


class TestMisses:
    @pytest.mark.parametrize("change", CHANGES)
    def test_a_changed_thing_is_a_miss(self, change: str, known: dict[str, object], cache: TargetCache) -> None:
        cache.store(known, targets_like(1.0))
        assert cache.load(CHANGES[change]()) is None
        assert cache.load(known) is not None

    def test_every_setting_of_the_optimisation_is_among_the_changes(self) -> None:
        assert set(TargetSpec.model_fields) <= set(CHANGES)

    def test_every_part_of_the_fingerprint_counts(self, known: dict[str, object], cache: TargetCache) -> None:
        cache.store(known, targets_like(1.0))
        for part in known:
            assert cache.load({**known, part: 9}) is None, part

    @pytest.mark.parametrize(
        ("owner", "name", "value"),
        [
            (torch, "get_num_threads", lambda: 7),
            (torch, "__version__", "9.9"),
            (transformers, "__version__", "9.9"),
            (torch, "get_float32_matmul_precision", lambda: "medium"),
            (torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT"),
            (identity, "_processor", lambda: "another"),
        ],
    )
    def test_another_machine_or_library_is_a_miss(
        self, owner: Any, name: str, value: Any, known: dict[str, object], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = backend_of()
        assert backend.targets_fingerprint(EDITS, 1) == known
        monkeypatch.setattr(owner, name, value)
        assert backend.targets_fingerprint(EDITS, 1) != known

    def test_another_version_of_the_code_is_a_miss(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        versions = set()
        for text in ("steps = 1", "steps = 2"):
            (tmp_path / "editing").mkdir(exist_ok=True)
            (tmp_path / "editing/targets.py").write_text(text)
            monkeypatch.setattr(identity, "__file__", str(tmp_path / "editing/fingerprint.py"))
            versions.add(identity.algorithm_version.__wrapped__())
        assert len(versions) == 2

    def test_what_targets_do_not_depend_on_is_no_miss(self, known: dict[str, object]) -> None:
        """Probes, names and what the edit replaces; the key covariance; the folder that a model lay in."""
        probes = {"paraphrases": ("What city?",), "neighbors": (Neighbor("Big Ben is in", "London"),)}
        assert _edited(fact_id="x", relation="y", target_old=None, **probes)() == known
        assert (
            backend_of(editor=EDITOR.model_copy(update={"covariance_weight": 1.0})).targets_fingerprint(EDITS, 1)
            == known
        )
        assert _config(_name_or_path="elsewhere") == known
        assert _weights(0, scale=1.0) == known


class TestDamage:
    @pytest.mark.parametrize("place", [0.02, 0.5, 0.98])
    def test_a_changed_byte_is_seen(self, place: float, cache: TargetCache) -> None:
        cache.store(PRINT, targets_like(1.0))
        (path,) = cache.folder.iterdir()
        data = bytearray(path.read_bytes())
        data[int(place * len(data))] ^= 0x10
        path.write_bytes(bytes(data))
        assert cache.load(PRINT) is None

    def test_a_short_file_is_seen_and_replaced(self, cache: TargetCache) -> None:
        cache.store(PRINT, targets_like(1.0))
        (path,) = cache.folder.iterdir()
        path.write_bytes(path.read_bytes()[:-1])
        assert cache.load(PRINT) is None
        cache.store(PRINT, targets_like(1.0))
        assert cache.load(PRINT) is not None

    def test_a_file_under_anothers_name_is_seen(self, cache: TargetCache) -> None:
        cache.store(PRINT, targets_like(1.0))
        (path,) = cache.folder.iterdir()
        other: dict[str, object] = {**PRINT, "edits": "those"}
        path.rename(cache._path(other))
        assert cache.load(other) is None

    def test_a_folder_that_cannot_be_made_is_no_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        cache = TargetCache(tmp_path / "file" / "targets")
        cache.store(PRINT, targets_like(1.0))
        assert cache.load(PRINT) is None


class TestResidualSchedule:
    def test_entries_lie_in_the_cache_folder_of_the_user_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("CONSORTIUM_CACHE", str(tmp_path / "cache"))
        TargetCache().store(PRINT, targets_like(1.0))
        assert len(list((tmp_path / "cache/targets").iterdir())) == 1
        assert (tmp_path / "cache/targets").stat().st_mode & 0o077 == 0

    def test_several_runs_write_read_and_trim_at_once(self, tmp_path: Path) -> None:
        """Whatever is read is whole and right, however the others write the same and remove it."""

        def one_run(seed: int) -> list[float]:
            cache = TargetCache(tmp_path, limit_bytes=20_000)
            order = np.random.Generator(np.random.PCG64(seed)).permutation(30).tolist()
            wrong = []
            for number in order:
                fingerprint: dict[str, object] = {"layer": 1, "number": number % 10}
                found = cache.load(fingerprint)
                if found is None:
                    cache.store(fingerprint, targets_like(float(number % 10), num_edits=20))
                elif not (found.vectors_EV == number % 10).all():
                    wrong.append(number)
            return wrong

        with ThreadPoolExecutor(4) as runs:
            assert [wrong for found in runs.map(one_run, range(4)) for wrong in found] == []
        assert not list(tmp_path.glob(".writing-*"))

    def test_those_used_longest_ago_make_room(self, tmp_path: Path) -> None:
        cache = TargetCache(tmp_path, limit_bytes=30_000)
        prints: list[dict[str, object]] = [{"layer": 1, "number": number} for number in range(12)]
        for number, fingerprint in enumerate(prints):
            cache.store(fingerprint, targets_like(1.0, num_edits=20))
            os.utime(cache._path(fingerprint), (number, number))
            assert cache.load(prints[0]) is not None, "it was used just before the next one is written"
            os.utime(cache._path(prints[0]), (number, number))
        kept = [number for number, fingerprint in enumerate(prints) if cache.load(fingerprint) is not None]
        assert kept[0] == 0
        assert kept[1:] == list(range(kept[1], 12))
        assert 0 < kept[1] < 12
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 30_000 + 3_000
