"""The page in a real browser."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from simplenet_edge.errors import LessonRefused
from simplenet_edge.runtime.monitor import Monitor
from simplenet_edge.runtime.records import Part
from simplenet_edge.runtime.snapshot import RecipesSnapshot
from simplenet_edge.runtime.status import LineStatus
from tests.runtime.monitor.chromium import Chromium, take_screenshot
from tests.runtime.monitor.conftest import Make

pytestmark = pytest.mark.slow

ODD_NAME = '<img src=x onerror="alert(1)">/2'
TOP = "document.querySelectorAll('.camera')[0]"
ODD = "document.querySelectorAll('.camera')[1]"


@pytest.fixture(scope="module")
def page() -> Iterator[Chromium]:
    with Chromium() as page:
        yield page


def feed(monitor: Monitor, status: LineStatus, make: Make, verdicts: list[str], camera: str = "top") -> None:
    start_s = time.monotonic() - len(verdicts)
    for i, verdict in enumerate(verdicts):
        result = make(verdict, camera, frame_id=i, at_s=start_s + i, name=f"part{i}.png")
        status.add(result)
        monitor.sink.write(result)


def says(camera: str, verdict: str) -> str:
    return f"{camera} && {camera}.querySelector('[data-field=verdict]').textContent === '{verdict}'"


def test_verdict_picture_chart_and_gallery_appear(page: Chromium, status: LineStatus, make: Make) -> None:
    status.raise_alarm("drift", "scores <b>rise</b>", "top")
    with Monitor(status, port=0) as monitor:
        feed(monitor, status, make, ["OK", "OK", "INVALID", "NG"])
        page.open(monitor.url)
        page.wait_for(says(TOP, "NG"))
        page.wait_for(says(ODD, "WAITING"))
        page.wait_for(f"{TOP}.querySelector('img').naturalWidth === 48 && !{TOP}.querySelector('img').hidden")
        assert page.run(f"{TOP}.querySelector('use').getAttribute('href')") == "#shape-ng"  # not by colour alone
        assert page.run(f"getComputedStyle({TOP}.querySelector('.verdict')).backgroundColor") == "rgb(194, 31, 31)"
        assert page.run(f"{TOP}.querySelector('.chart .scores').getAttribute('d').split('L').length") == 3
        assert page.run(f"{TOP}.querySelector('.chart .ng').getAttribute('d').split('M').length") == 2
        assert "threshold 60.00, 1 NG, 1 invalid" in page.run(f"{TOP}.querySelector('.chart').ariaLabel")
        page.wait_for("document.querySelector('#gallery img').naturalWidth === 48")
        assert "part3.png" in page.run("document.querySelector('#gallery img').alt")
        assert page.text("#alarms").startswith("top: scores <b>rise</b>")
        assert "the disk is full" in page.text("#sinks")
        assert "fake" in page.text("#model")
        assert page.run("document.querySelector('#swap').hidden")
        feed(monitor, status, make, ["OK"])
        page.wait_for(says(TOP, "OK"))  # after the NG has been seen
        assert page.errors == []


def test_what_the_server_says_is_only_ever_text(page: Chromium, status: LineStatus, make: Make) -> None:
    with Monitor(status, port=0) as monitor:
        feed(monitor, status, make, ["NG"], ODD_NAME)
        page.open(monitor.url)
        page.wait_for(says(ODD, "NG"))
        page.wait_for(f"!{ODD}.querySelector('.picture img').hidden")  # its odd name works in an address too
        assert page.run(f"{ODD}.querySelector('[data-field=name]').textContent") == ODD_NAME
        assert page.run("document.querySelector('img[onerror]')") is None
        assert page.errors == []


def test_an_ng_part_is_shown_large_from_the_keyboard(page: Chromium, status: LineStatus, make: Make) -> None:
    with Monitor(status, port=0) as monitor:
        feed(monitor, status, make, ["NG"])
        page.open(monitor.url)
        page.wait_for("document.querySelector('#gallery button')")
        page.run("document.querySelector('#gallery button').focus()")
        page.press("Enter")
        page.wait_for("document.querySelector('#large').open && document.querySelector('#large img').naturalWidth")
        assert page.text("#large-title") == "NG part0.png"
        page.press("h")
        page.wait_for("document.querySelector('#large img').src.includes('heat=0')")
        page.press("Escape")
        page.wait_for("!document.querySelector('#large').open")
        page.press("h")
        page.wait_for(f"{TOP}.querySelector('.picture img').src.includes('heat=0')")
        assert page.run("document.querySelector('#heat').ariaPressed") == "false"


def test_a_swap_is_asked_for_twice_and_its_answer_shown(page: Chromium, status: LineStatus) -> None:
    with Monitor(status, port=0, swap=lambda: "bundle 2 runs") as monitor:
        page.open(monitor.url)
        page.wait_for("document.querySelector('#swap') && !document.querySelector('#swap').hidden")
        page.run("document.querySelector('#swap').click()")
        page.wait_for("document.querySelector('#confirm').open")
        page.run("document.querySelector('#swap-now').click()")
        page.wait_for("document.querySelector('#confirm .answer').textContent === 'bundle 2 runs'")


def test_parts_are_marked_and_taught(page: Chromium, status: LineStatus, make: Make) -> None:
    taught: list[tuple[list[str], list[str], str]] = []

    def teach(good: Sequence[str], bad: Sequence[str], by: str) -> str:
        taught.append((list(good), list(bad), by))
        if len(taught) == 1:
            raise LessonRefused("<b>gear 7</b> would pass", ["gear 7"])
        return "lesson 1 is in the shadow"

    with Monitor(status, port=0, teach=teach) as monitor:
        feed(monitor, status, make, ["NG", "NG"])
        page.open(monitor.url)
        page.wait_for("document.querySelectorAll('#gallery button').length === 2")
        assert page.run("document.querySelector('#lesson').hidden")
        for place, mark in enumerate(("#mark-bad", "#mark-good")):  # the newest first
            page.run(f"document.querySelectorAll('#gallery button')[{place}].click()")
            page.run(f"document.querySelector('{mark}').click()")
            assert page.run(f"document.querySelector('{mark}').ariaPressed") == "true"
            page.run("document.querySelector('#large [data-close]').click()")
        assert page.text("#lesson-marks") == "1 parts marked good, 1 bad"
        page.run("document.querySelector('#lesson-by').value = 'Ada'")
        for answer in ("<b>gear 7</b> would pass", "lesson 1 is in the shadow"):
            page.run("document.querySelector('#lesson-teach').click()")
            page.wait_for(f"document.querySelector('#lesson-answer').textContent === '{answer}'")
        assert page.text("#lesson-marks") == "0 parts marked good, 0 bad"
        assert page.run("document.querySelector('#lesson-teach').disabled")
    (kept,) = (item["kept"] for item in monitor.sink.gallery.to_dict()["items"] if item["name"] == "part0.png")
    assert taught[1][0] == [kept]
    assert taught[0] == taught[1]
    assert taught[1][2] == "Ada"
    assert ["409" in error for error in page.errors] == [True]  # the browser's own note of the refusal


LONG_ID = "housing-4711-" + "0123456789" * 11 + "-last"  # 128 characters, as a camera reads them


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 700)])
def test_parts_and_recipes(status: LineStatus, make: Make, width: int, height: int) -> None:
    known = status.snapshot().model
    assert known is not None
    names = ("gear", "shaft & <b>lever</b>", "a-very-long-recipe-name-without-a-space-" * 3 + "end")
    errors = {names[2]: "the bundle is damaged; copy it again"}
    status.put_parts(known, RecipesSnapshot("gear", names, names[:2], names[2], errors), None, {})
    chosen: list[str] = []
    with (
        Monitor(status, port=0, select=lambda name: chosen.append(name) or name) as monitor,  # type: ignore[func-returns-value]
        Chromium(width, height) as page,
    ):
        not_loaded = make("INVALID", ODD_NAME, part=Part(LONG_ID, names[2]))
        not_loaded = dataclasses.replace(
            not_loaded,
            record=dataclasses.replace(not_loaded.record, image=make("OK").record.image),
            bundle_id=None,
            threshold=None,
            reason="recipe is being loaded",
            cause="recipe",
        )
        for result in (make("NG", name="part0.png", part=Part("A-0031", names[1])), not_loaded):
            status.add(result)
            monitor.sink.write(result)
        page.open(monitor.url)
        page.wait_for(says(TOP, "NG"))
        page.wait_for(says(ODD, "INVALID"))
        about = page.run(f"{TOP}.querySelector('[data-field=part]').textContent")
        assert about.startswith(f"A-0031 · {names[1]} · ")
        assert page.run(f"{ODD}.querySelector('[data-field=part]').textContent").startswith(
            f"{LONG_ID} · {names[2]} · "
        )
        assert page.run(f"{ODD}.querySelector('[data-field=threshold]').textContent") == "\u2013"
        rows = page.run("[...document.querySelectorAll('#recipes div')].map((row) => row.textContent)")
        assert rows == ["Recipegear", f"Loadedgear, {names[1]}", f"Loading{names[2]}"]
        assert page.text("#recipe-errors") == f"Recipe {names[2]}: the bundle is damaged; copy it again"
        cut_off = (
            "[...document.querySelectorAll('#recipes dd, #large dd')].filter((e) => e.scrollWidth > e.clientWidth)"
        )
        assert page.run(f"{cut_off}.length") == 0
        assert page.run("document.documentElement.scrollWidth") <= width

        page.run("document.querySelector('#gallery-verdict').value = ''")
        page.run("document.querySelector('#gallery-verdict').dispatchEvent(new Event('change'))")
        page.wait_for("document.querySelectorAll('#gallery li').length === 2")
        for alt, part, recipe in (("INVALID", LONG_ID, names[2]), ("NG", "A-0031", names[1])):
            page.run(f"document.querySelector('#gallery img[alt^={alt}]').closest('button').click()")
            page.wait_for("document.querySelector('#large').open")
            rows = page.run("[...document.querySelectorAll('#large dl div')].map((row) => row.textContent)")
            assert rows[:2] == [f"Part{part}", f"Recipe{recipe}"]
            assert page.run(f"{cut_off}.length") == 0
            page.press("Escape")

        page.run("document.querySelector('#change-recipe').click()")
        page.wait_for("document.querySelector('#confirm-recipe').open")
        options = page.run("[...document.querySelector('#recipe').options].map((option) => option.textContent)")
        assert options == ["gear", names[1], f"{names[2]} (not loaded yet)"]
        assert page.run("document.querySelector('#recipe').value") == "gear"
        dialog = "document.querySelector('#confirm-recipe')"
        assert page.run(f"{dialog}.scrollWidth <= {dialog}.clientWidth")
        page.run(f"document.querySelector('#recipe').value = {names[1]!r}")
        assert chosen == []
        page.run("document.querySelector('#recipe-now').click()")
        page.wait_for("document.querySelector('#confirm-recipe .answer').textContent.endsWith('is selected')")
        assert chosen == [names[1]]
        assert page.errors == []


def test_a_line_of_one_recipe_says_nothing_of_it(page: Chromium, status: LineStatus, make: Make) -> None:
    known = status.snapshot().model
    assert known is not None
    status.put_parts(known, RecipesSnapshot("gear", ("gear",), ("gear",), None, {}), None, {})
    with Monitor(status, port=0, select=lambda name: name) as monitor:
        monitor.sink.write(make("OK", name="part0.png", part=Part(None, "gear")))
        page.open(monitor.url)
        page.wait_for(says(TOP, "OK"))
        assert page.run(f"{TOP}.querySelector('[data-field=part]').textContent").startswith("part0.png · 12")
        assert page.run("document.querySelector('#change-recipe').hidden")
        assert page.run("document.querySelector('#recipes').children.length") == 0


def test_a_camera_that_is_away_has_no_verdict(page: Chromium, status: LineStatus, make: Make) -> None:
    with Monitor(status, port=0) as monitor:
        feed(monitor, status, make, ["OK"])
        page.open(monitor.url)
        page.wait_for(says(TOP, "OK"))
        status.connection("top", connected=False, reconnects=0)
        page.wait_for(says(TOP, "CAMERA AWAY"))
        assert page.run(f"{TOP}.dataset.verdict") == "NONE"
        assert page.text('[data-field="state"]') == "NOT HEALTHY"
        assert "camera top is away" in page.text("#alarms")
        status.raise_alarm("camera", "the camera gives no frames", "top")
        page.wait_for("document.querySelector('#alarms').textContent.includes('gives no frames')")
        assert "is away" not in page.text("#alarms")  # one fact, said once
        assert page.run("document.querySelectorAll('#alarms li').length") == 1
        status.clear_alarm("camera", "top")
        status.connection("top", connected=True, reconnects=1)
        page.wait_for(says(TOP, "OK"))
        status.pulse("stopping")
        page.wait_for(says(TOP, "STOPPING"))


def test_the_shift_in_per_cent_and_a_new_one(page: Chromium, status: LineStatus, make: Make) -> None:
    with Monitor(status, port=0) as monitor:
        feed(monitor, status, make, ["OK"] * 7 + ["NG"])
        feed(monitor, status, make, ["OK"] * 8, ODD_NAME)
        page.open(monitor.url)
        page.wait_for("document.querySelector('[data-field=reject-rate]').textContent === '6.25 %'")
        assert page.run(f"{TOP}.querySelector('[data-field=rejected]').textContent") == "12.5 %"
        page.run("document.querySelector('#new-shift').click()")
        page.run("document.querySelector('#shift-now').click()")
        page.wait_for("document.querySelector('[data-field=reject-rate]').textContent === '\u2013'")
        page.wait_for("document.querySelector('#confirm-shift .answer').textContent.includes('anew')")


def test_the_gallery_of_one_camera_or_verdict(page: Chromium, status: LineStatus, make: Make) -> None:
    with Monitor(status, port=0) as monitor:
        feed(monitor, status, make, ["NG", "NG"])
        feed(monitor, status, make, ["NG"], ODD_NAME)
        page.open(monitor.url)
        page.wait_for("document.querySelectorAll('#gallery li').length === 3")
        assert page.text("[data-field=gallery-count]") == "the last 3 of 3"
        choose = "const s = document.querySelector('#gallery-{}'); s.value = {!r}; s.dispatchEvent(new Event('change'))"
        page.run("{" + choose.format("camera", "top") + "}")
        page.wait_for("document.querySelectorAll('#gallery li').length === 2")
        page.run("{" + choose.format("verdict", "INVALID") + "}")
        page.wait_for("document.querySelectorAll('#gallery li').length === 0")
        assert page.errors == []


def test_many_alarms_leave_the_cameras_their_place(page: Chromium, status: LineStatus) -> None:
    with Monitor(status, port=0) as monitor:
        for i in range(8):
            status.raise_alarm(f"sink {i}", f"broker {i} takes no results", "")
        page.open(monitor.url)
        page.wait_for("document.querySelectorAll('#alarms li').length === 8")
        assert page.run("document.querySelector('#alarms').getBoundingClientRect().height") < 120
        assert page.text("#alarms button") == "and 6 more"
        page.run("document.querySelector('#alarms button').click()")
        assert page.run("document.querySelector('#alarms li:last-child').checkVisibility()")


def test_on_a_phone_every_camera_s_verdict_is_above_the_fold(status: LineStatus, make: Make) -> None:
    with Monitor(status, port=0) as monitor, Chromium(390, 700) as phone:
        feed(monitor, status, make, ["OK"])
        feed(monitor, status, make, ["NG"], ODD_NAME)
        phone.open(monitor.url)
        phone.wait_for(says(ODD, "NG"))
        chips = "[...document.querySelectorAll('#overview button')]"
        assert phone.run(f"{chips}.map((chip) => chip.dataset.verdict)") == ["OK", "NG"]
        assert phone.run(f"Math.max(...{chips}.map((chip) => chip.getBoundingClientRect().bottom))") < 400
        assert phone.run("document.documentElement.scrollWidth") <= 390


def test_the_token_is_asked_for(page: Chromium, status: LineStatus, make: Make) -> None:
    with Monitor(status, port=0, token="sixteen letters!") as monitor:
        feed(monitor, status, make, ["OK"])
        page.open(monitor.url)
        page.wait_for("document.querySelector('#token')")
        page.run("document.querySelector('#token').value = 'sixteen letters!'")
        page.run("document.querySelector('form').requestSubmit()")
        page.wait_for(says(TOP, "OK"))


def test_a_screenshot(status: LineStatus, make: Make, tmp_path: Path) -> None:
    with Monitor(status, port=0) as monitor:
        feed(monitor, status, make, ["NG"])
        feed(monitor, status, make, ["OK"], ODD_NAME)
        take_screenshot(monitor.url, tmp_path / "monitor.png", width=640, height=480, scheme="dark")
    image = cv2.imread(str(tmp_path / "monitor.png"))
    assert image is not None
    assert image.shape == (480, 640, 3)
    assert np.median(image) < 60  # dark, as was asked for


def test_no_verdict_outlives_its_connection(page: Chromium, status: LineStatus, make: Make) -> None:
    with Monitor(status, port=0) as monitor:
        feed(monitor, status, make, ["OK"])
        page.open(monitor.url)
        page.wait_for(says(TOP, "OK"))
        page.wait_for(f"!{TOP}.querySelector('.picture img').hidden")
        port = int(monitor.url.rpartition(":")[2])
    page.wait_for(says(TOP, "NO CONNECTION"))
    assert page.run(f"{TOP}.dataset.verdict") == "NONE"
    assert page.run(f"{TOP}.querySelector('.picture img').hidden")
    assert page.run(f"{TOP}.querySelector('[data-field=score]').textContent") == "\u2013"
    assert page.text('[data-field="state"]') == "NO CONNECTION"
    assert page.run("document.querySelector('#lost').checkVisibility()")
    with Monitor(status, port=port) as monitor:  # a new run, which counts from 0 again
        feed(monitor, status, make, ["NG"])
        page.wait_for(says(TOP, "NG"))
        assert page.run("document.querySelector('#lost').hidden")
        assert page.run(f"{TOP}.querySelector('.chart .scores').getAttribute('d').split('M').length") == 2
