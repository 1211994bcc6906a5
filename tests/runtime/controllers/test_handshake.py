"""Whatever a controller does, a verdict is shown with the id of its own part, once, or not at all."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from simplenet_edge.errors import SourceError
from simplenet_edge.runtime.controllers import Answer, Handshake, Request
from simplenet_edge.runtime.records import FrameRecord, FrameResult, Part
from simplenet_edge.runtime.sources.base import utc_now

STEPS = st.one_of(
    st.builds(
        Request, st.booleans(), st.booleans(), st.sampled_from(["A", "B", "", "\n"]), st.sampled_from(["", "gear"])
    ),
    st.sampled_from(["reply", "old reply", "lose", "late", "busy"]),
)


class World:
    """A line and a deadline that do what a test says; each result tells in its reason which part it belongs to."""

    def __init__(self) -> None:
        self.replies: list[tuple[Callable[[FrameResult], None], Part]] = []
        self.busy = False
        self.handshake = Handshake(self.fire, deadline_s=1e9)

    def fire(self, reply: Callable[[FrameResult], None], part: Part) -> None:
        if self.busy:
            raise SourceError("16 triggers wait")
        self.replies.append((reply, part))

    def answer(self, number: int) -> None:
        reply, part = self.replies[number]
        record = FrameRecord(number, "part", utc_now(), None, part=part)
        reply(FrameResult(record, None, None, None, f"{number} {part.id} {part.recipe}", "source"))


@given(steps=st.lists(STEPS, max_size=60))
def test_no_answer_is_ever_of_another_part(steps: list[Request | str]) -> None:
    world = World()
    handshake, answer, asked = world.handshake, Answer(), Request()
    for step in steps:
        before = answer
        if isinstance(step, Request):
            answer = handshake.step(step)
            if before.ready and step.trigger and not step.acknowledge:
                asked = step
                assert answer.busy or (answer.error and (world.busy or not step.part_id.isprintable()))
        elif step == "lose":
            handshake.lose()
            answer = Answer()
        elif step == "late":
            handshake.deadline_s = -1.0
        elif step == "busy":
            world.busy = not world.busy
        elif world.replies:
            world.answer(-1 if step == "reply" else 0)
        assert answer.ready + answer.busy + answer.valid + answer.error <= 1
        if answer.valid:
            assert answer.reason == f"{len(world.replies) - 1} {asked.part_id or None} {asked.recipe or None}"
            assert before.busy or before == answer
            assert (answer.part_id, answer.recipe) == (asked.part_id, asked.recipe)
        if answer.ready or answer == Answer():
            assert (answer.part_id, answer.reason, answer.score) == ("", "", None)


def ready(world: World) -> None:
    assert world.handshake.step(Request()) == Answer(ready=True)


def test_one_part_from_trigger_to_acknowledgement() -> None:
    world = World()
    ready(world)
    trigger = Request(trigger=True, part_id="A", recipe="gear")
    assert world.handshake.step(trigger) == Answer(busy=True, part_id="A", recipe="gear")
    assert not world.handshake.answered.is_set()
    world.answer(0)
    assert world.handshake.answered.is_set()
    told = world.handshake.step(trigger)
    assert (told.valid, told.part_id, told.verdict, told.reason) == (True, "A", "INVALID", "0 A gear")
    assert world.handshake.step(Request(trigger=True, acknowledge=True, part_id="A")) == told
    assert world.handshake.step(Request(acknowledge=True)) == Answer()
    assert world.handshake.step(Request(trigger=True, acknowledge=True, part_id="B")) == Answer()
    ready(world)


def test_a_part_without_a_verdict_in_time_is_an_error_and_its_verdict_is_never_shown() -> None:
    world = World()
    ready(world)
    world.handshake.step(Request(trigger=True, part_id="A"))
    world.handshake.deadline_s = -1.0
    told = world.handshake.step(Request(trigger=True, part_id="A"))
    assert (told.error, told.valid, told.part_id) == (True, False, "A")
    assert "no verdict within" in told.reason
    world.answer(0)
    assert world.handshake.step(Request(trigger=True, part_id="A")) == told
    world.handshake.step(Request(acknowledge=True))
    ready(world)
    assert world.handshake.step(Request(trigger=True, part_id="B")) == Answer(busy=True, part_id="B")


def test_a_trigger_from_before_the_line_was_there_is_an_error() -> None:
    world = World()
    told = world.handshake.step(Request(trigger=True, part_id="A"))
    assert (told.error, told.part_id, told.reason) == (True, "A", "the line was not ready when the trigger came")
    assert world.replies == []


def test_a_trigger_that_is_taken_back_is_an_error_of_its_part() -> None:
    for changed in (Request(part_id="A"), Request(trigger=True, part_id="B")):
        world = World()
        ready(world)
        world.handshake.step(Request(trigger=True, part_id="A"))
        told = world.handshake.step(changed)
        assert (told.error, told.part_id) == (True, "A")
        assert "taken back" in told.reason
