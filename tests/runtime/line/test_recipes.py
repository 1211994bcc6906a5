"""Changeover: each part is judged by the model of its recipe, and by no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simplenet_edge.errors import BundleError, ConfigError, DataError, EngineError, RecipeError
from simplenet_edge.runtime.detector import Detector
from simplenet_edge.runtime.line.line import Line
from simplenet_edge.runtime.line.model_loader import ModelLoader
from simplenet_edge.runtime.line.recipes import RecipeConfig, Recipes
from simplenet_edge.runtime.records import FrameRecord, Part
from simplenet_edge.runtime.sources import Source
from simplenet_edge.runtime.sources.base import utc_now
from simplenet_edge.spec import OperatingPoint
from tests.bundles import even_frames, write_tiny_bundle
from tests.runtime.belts import Kept, LiveBelt
from tests.runtime.line.test_line import running
from tests.waiting import until

NAMES = ("gear", "shaft", "ring")


class PartBelt(Source):
    """Parts of the recipes that it is given, one frame each; `before` is called with the number of each."""

    def __init__(self, recipes: list[str | None], before: Callable[[int], object] = int, name: str = "belt") -> None:
        super().__init__(name)
        self.recipes, self.before = recipes, before

    def _open(self) -> None:
        pass

    def _close(self) -> None:
        pass

    def __iter__(self) -> Iterator[FrameRecord]:
        for i, recipe in enumerate(self.recipes):
            self.before(i)
            yield FrameRecord(i, f"part-{i}", utc_now(), even_frames(1, i)[0], part=Part(f"SN{i}", recipe))


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle for each of NAMES; the thresholds differ, and so do their ids."""
    folder = tmp_path_factory.mktemp("recipes")
    points = {name: OperatingPoint(60.0 + i, 0.05, 40, True) for i, name in enumerate(NAMES)}
    return {name: write_tiny_bundle(folder / name, operating_point=points[name]).path for name in NAMES}


@pytest.fixture
def gear(bundles: dict[str, Path]) -> Iterator[Detector]:
    detector = load(bundles["gear"])
    yield detector
    detector.engine.close()


def load(path: Path, opened: list[Detector] | None = None, wait: threading.Event | None = None) -> Detector:
    if wait is not None:
        wait.wait()
    detector = ModelLoader(path, "onnxruntime", threads=1, check=False).load()
    if opened is not None:
        opened.append(detector)
    return detector


def config(bundles: dict[str, Path], opened: list[Detector] | None = None, budget: int | None = None) -> RecipeConfig:
    others = {name: (lambda path=bundles[name]: load(path, opened)) for name in NAMES[1:]}
    return RecipeConfig("gear", others, {"1": "gear", "2": "shaft"}, budget)


def errors_of(recipes: Recipes) -> dict[str, str]:
    """As the line does it: what had to make room is closed between two frames."""
    recipes.sweep()
    return recipes.snapshot().errors


def is_open(detector: Detector) -> bool:
    try:
        detector.engine.predict(even_frames(1))
    except EngineError:
        return False
    return True


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(st.lists(st.sampled_from([None, "1", "2", "lathe", *NAMES]), min_size=1), min_size=1, max_size=3))
def test_no_part_is_judged_by_another_recipe(
    asked: list[list[str | None]], bundles: dict[str, Path], gear: Detector
) -> None:
    kept = Kept()
    ids = {"gear": gear.bundle_id}
    opened: list[Detector] = []
    belts = [PartBelt(recipes, name=f"belt {i}") for i, recipes in enumerate(asked)]
    summary = Line(belts, gear, [kept], recipes=config(bundles, opened)).run()
    ids |= {name: detector.bundle_id for name, detector in zip(NAMES[1:], opened, strict=True)}
    assert summary.frames == sum(map(len, asked))
    for result in kept.results:
        part = result.record.part
        recipe = asked[int(result.record.camera[-1])][result.record.frame_id]
        name = {None: "gear", "1": "gear", "2": "shaft"}.get(recipe, recipe)
        assert (part.id, part.recipe) == (f"SN{result.record.frame_id}", name)
        assert result.bundle_id == ids.get(str(name))
        assert (result.verdict, result.cause) == (("INVALID", "recipe") if recipe == "lathe" else ("OK", None))
        if recipe == "lathe":
            assert result.reason == "no recipe is called 'lathe'; this line has gear, shaft, ring"
            assert result.threshold is None
    assert not any(is_open(detector) for detector in opened)


def test_frames_keep_the_recipe_that_was_selected_when_they_were_taken(
    bundles: dict[str, Path], gear: Detector
) -> None:
    belt, kept = LiveBelt(), Kept()
    line = Line([belt], gear, [kept], recipes=config(bundles))
    with running(line):
        belt.step(3)
        kept.wait_for(3)
        until(lambda: "shaft" in line.recipes.snapshot().loaded)
        before_s = time.monotonic()
        assert line.recipes.select("2") == "shaft"
        belt.step(3)
        kept.wait_for(6)
        assert line.recipes.selected(before_s) == "gear"
        with pytest.raises(RecipeError, match="no recipe is called '3'"):
            line.recipes.select("3")
    recipes = [result.record.part.recipe for result in kept.results]
    assert recipes[:3] == ["gear"] * 3
    assert recipes[-2:] == ["shaft"] * 2  # the fourth was under way when the recipe changed
    assert {result.bundle_id for result in kept.results if result.record.part.recipe == "gear"} == {gear.bundle_id}


def test_what_is_not_loaded_is_invalid_until_it_is(bundles: dict[str, Path], gear: Detector) -> None:
    """With a budget of one byte, each recipe is loaded in the place of the other."""
    opened: list[Detector] = []
    going = threading.Event()
    slow = {name: (lambda path=bundles[name]: load(path, opened, going)) for name in NAMES[1:]}
    recipes = Recipes(RecipeConfig("gear", slow, memory_bytes=1), lambda: gear)
    going.set()
    with recipes:  # the first always fits: nothing is known of its size
        going.clear()
        assert recipes.snapshot().loaded == ("gear", "shaft")
        with pytest.raises(RecipeError, match="recipe ring is being loaded"):
            recipes.detector("ring")
        until(lambda: recipes._evicted)
        recipes.sweep()
        assert not is_open(opened[0])
        until(lambda: recipes.snapshot().loading == "ring")
        with pytest.raises(RecipeError, match="recipe shaft is being loaded"):
            recipes.detector("shaft")
        going.set()
        until(lambda: not errors_of(recipes) and "shaft" in recipes.snapshot().loaded)
        assert recipes.detector("shaft").bundle_id == opened[0].bundle_id
        assert recipes.detector("gear") is gear
    assert not any(is_open(detector) for detector in opened)


def test_a_recipe_that_does_not_load_takes_no_other_with_it(bundles: dict[str, Path], gear: Detector) -> None:
    def broken() -> Detector:
        raise BundleError("model.fp32.onnx is damaged")

    others: dict[str, Callable[[], Detector]] = {"shaft": lambda: load(bundles["shaft"]), "ring": broken}
    with pytest.raises(BundleError, match="is damaged"), Recipes(RecipeConfig("gear", others), lambda: gear):
        pass
    with Recipes(RecipeConfig("gear", others, memory_bytes=1), lambda: gear) as recipes:
        with pytest.raises(RecipeError, match="is being loaded"):
            recipes.detector("ring")
        until(lambda: errors_of(recipes))
        with pytest.raises(RecipeError, match=r"recipe ring was not loaded: model\.fp32\.onnx is damaged"):
            recipes.detector("ring")
        assert recipes.detector("gear") is gear


def test_recipes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="the recipe 'gear' is there twice"):
        RecipeConfig("gear", {"gear": lambda: load(Path())})
    with pytest.raises(ConfigError, match="a number of its own"):
        RecipeConfig("gear", numbers={"1": "shaft"})
    with pytest.raises(ConfigError, match="memory_bytes"):
        RecipeConfig("gear", memory_bytes=0)
    with pytest.raises(DataError, match="a recipe of 1 to 128 printable characters"):
        Part("SN1", "a\nb")
    with pytest.raises(DataError, match="a part id of 1 to 128 printable characters"):
        Part("")
