"""Jobs, results and states of the OPC UA server, as a stock client sees them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from asyncua import ua
from asyncua.sync import Client
from asyncua.ua import uaerrors

from simplenet_edge.runtime.controllers import OpcUaController
from simplenet_edge.runtime.controllers.opcua_results import NOT_FOUND, RECENT
from simplenet_edge.runtime.records import VerdictName
from tests.runtime.controllers.clients import AUTOMATIC, STANDARD, PlcClient, job_arguments
from tests.runtime.controllers.lines import RunningLine, judged
from tests.waiting import until

NO_TIMEOUT = ua.Variant(0, ua.VariantType.Int32)


def test_the_vision_system_is_found_and_has_what_the_specification_demands(plc: PlcClient) -> None:
    assert plc.get(plc.system.read_type_definition()).read_browse_name().Name == "VisionSystemType"
    for path in (
        "VisionStateMachine/Reset",
        "VisionStateMachine/Halt",
        "VisionStateMachine/SelectModeAutomatic",
        f"{AUTOMATIC}/StartSingleJob",
        f"{AUTOMATIC}/StartContinuous",
        f"{AUTOMATIC}/Abort",
        f"{AUTOMATIC}/Stop",
        "ResultManagement/GetResultById",
        "ResultManagement/GetResultComponentsById",
        "ResultManagement/GetResultListFiltered",
    ):
        assert plc.node(path).read_node_class() == ua.NodeClass.Method
    state_id = plc.node(f"{AUTOMATIC}/0:CurrentState/0:Id").read_value()
    assert plc.get(state_id).read_browse_name().Name == "Ready"
    numbers = [
        plc.node(f"VisionStateMachine/{name}/0:StateNumber").read_value()
        for name in ("Preoperational", "Halted", "Error", "Operational")
    ]
    assert numbers == [1, 2, 3, 4]


def test_every_method_that_is_there_does_something(plc: PlcClient) -> None:
    """One without a function behind it would answer BadNothingToDo."""
    nodes, methods = [plc.system], 0
    while nodes:
        node = nodes.pop()
        for child in node.get_children():
            if child.read_node_class() == ua.NodeClass.Method:
                methods += 1
                with pytest.raises((uaerrors.BadTooManyArguments, uaerrors.BadArgumentsMissing)):
                    node.call_method(child, *["one too many"] * 20)
            else:
                nodes.append(child)
    assert methods == 10


def test_a_job_is_started_judged_and_told(plc: PlcClient, line: RunningLine) -> None:
    job = plc.start("part 1", "recipe A", "measurement", "product")
    until(lambda: plc.state() == "SingleExecution")
    assert plc.event("JobStartedEventType").JobId.Id == job
    assert plc.line("JobId") == job
    assert plc.line("Verdict") == "INVALID"
    assert plc.node("ResultManagement/Results").get_children()[0].read_value().ResultState == 2
    line.side.verdict = judged("OK", 0.25)
    event = plc.event("ResultReadyEventType", job)
    assert plc.event("ReadyEventType").JobId.Id == job
    assert plc.result(job) == ("part 1", "OK", 0.25, "", 1)
    assert (event.MeasId.Id, event.ProductId.Id, event.ExternalRecipeId.Id) == ("measurement", "product", "recipe A")
    assert (event.IsPartial, event.IsSimulated, event.SourceName) == (False, False, "VisionSystem")
    assert event.CreationTime >= event.ProcessingTimes.StartTime
    assert line.side.parts == [("part 1", "recipe A")]
    plc.await_state("Ready")
    latest = plc.node("ResultManagement/Results").get_children()[0]
    assert latest.read_browse_name().Name == "Latest"
    assert latest.read_value().ResultId == event.ResultId
    assert [plc.line(name) for name in ("JobId", "PartId", "Verdict", "Score", "Reason")] == [
        job,
        "part 1",
        "OK",
        0.25,
        "",
    ]


@pytest.mark.parametrize(
    ("verdict", "score", "reason", "state"),
    [("NG", 0.75, "", 1), ("INVALID", None, "the camera is away", 4), ("INVALID", 0.1, "too late", 4)],
)
def test_each_verdict_is_told_as_it_is(
    plc: PlcClient, line: RunningLine, verdict: VerdictName, score: float | None, reason: str, state: int
) -> None:
    line.side.verdict = judged(verdict, score, reason or None)
    assert plc.result(plc.start("p")) == ("p", verdict, score, reason, state)


def test_an_error_of_the_line_is_an_error_until_it_is_over(plc: PlcClient, line: RunningLine) -> None:
    line.side.refusal = "16 triggers wait"
    job = plc.start("late")
    assert plc.result(job) == ("late", "INVALID", None, "16 triggers wait", 4)
    assert plc.event("ErrorEventType").Message.Text == "16 triggers wait"
    plc.event("ErrorResolvedEventType")
    plc.await_state("Ready")
    line.side.refusal, line.side.verdict = None, judged("OK", 0.1)
    assert plc.result(plc.start("next"))[:2] == ("next", "OK")


def test_a_start_is_refused_and_starts_nothing_where_the_line_is_not_ready(plc: PlcClient, line: RunningLine) -> None:
    line.side.away = True
    plc.await_state("Initialized")
    with pytest.raises(uaerrors.BadInvalidState):
        plc.start("p")
    line.side.away = False
    plc.await_state("Ready")
    assert line.side.parts == []


def test_after_reset_and_halt_jobs_are_refused_until_automatic_is_selected(plc: PlcClient, line: RunningLine) -> None:
    plc.cause("VisionStateMachine/Halt")
    assert plc.state() == "Halted"
    with pytest.raises(uaerrors.BadInvalidState):
        plc.call("VisionStateMachine/SelectModeAutomatic")
    with pytest.raises(uaerrors.BadInvalidState):
        plc.start("p")
    with pytest.raises(uaerrors.BadStateNotActive):
        plc.node(f"{AUTOMATIC}/0:CurrentState").read_value()
    plc.cause("VisionStateMachine/Reset")
    assert plc.state() == "Preoperational"
    with pytest.raises(uaerrors.BadInvalidState):
        plc.start("p")
    assert plc.call("VisionStateMachine/SelectModeAutomatic") == 0
    plc.await_state("Ready")
    assert line.side.parts == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({1: "x" * 129}, uaerrors.BadInvalidArgument),  # too long
        ({1: "a\nb"}, uaerrors.BadInvalidArgument),  # a line break
        ({2: "\0"}, uaerrors.BadInvalidArgument),
    ],
)
def test_ids_that_can_not_be_used_are_refused(
    plc: PlcClient, line: RunningLine, change: dict[int, str], error: type[Exception]
) -> None:
    arguments = job_arguments("p")
    for position, text in change.items():
        arguments[position].Id = text
    with pytest.raises(error):
        plc.call(f"{AUTOMATIC}/StartSingleJob", *arguments)
    assert plc.state() == "Ready"
    assert line.side.parts == []


def test_arguments_of_the_wrong_type_are_refused(plc: PlcClient) -> None:
    arguments = job_arguments("p")
    arguments[1] = arguments[0]
    for given in (arguments, ["p"] * 5):
        with pytest.raises(uaerrors.BadInvalidArgument):
            plc.call(f"{AUTOMATIC}/StartSingleJob", *given)


def test_continuous_jobs_are_not_supported(plc: PlcClient) -> None:
    with pytest.raises(uaerrors.BadNotSupported):
        plc.call(f"{AUTOMATIC}/StartContinuous", *job_arguments("p"))


@pytest.mark.parametrize("how", [f"{AUTOMATIC}/Abort", f"{AUTOMATIC}/Stop", "VisionStateMachine/Halt"])
def test_a_job_that_is_taken_back_ends_as_aborted(plc: PlcClient, line: RunningLine, how: str) -> None:
    job = plc.start("first")
    until(lambda: line.side.parts)
    plc.cause(how)
    part, verdict, score, reason, state = plc.result(job)
    assert (part, verdict, score, state) == ("first", "INVALID", None, 3)
    assert "by the controller: a test (7)" in reason
    until(lambda: [part for part, _ in line.side.errors] == ["first"])
    if how.endswith("Halt"):
        plc.cause("VisionStateMachine/Reset")
        plc.call("VisionStateMachine/SelectModeAutomatic")
    plc.await_state("Ready")
    assert "ErrorEventType" not in [name for name, _ in plc.events]  # its own doing is no error
    line.side.verdict = judged("NG", 0.9)
    assert plc.result(plc.start("second")) == ("second", "NG", 0.9, "", 1)


def test_without_a_job_there_is_nothing_to_abort(plc: PlcClient) -> None:
    for name in ("Abort", "Stop"):
        with pytest.raises(uaerrors.BadInvalidState):
            plc.cause(f"{AUTOMATIC}/{name}")


def test_two_clients_share_the_system_and_one_job_runs_at_a_time(
    plc: PlcClient, controller: OpcUaController, line: RunningLine
) -> None:
    other = PlcClient(controller.name)
    try:
        job = plc.start("mine")
        with pytest.raises(uaerrors.BadInvalidState):
            other.start("yours")
        line.side.verdict = judged("OK", 0.2)
        assert plc.result(job) == other.result(job) == ("mine", "OK", 0.2, "", 1)
        other.await_state("Ready")
        assert plc.result(other.start("yours"))[0] == "yours"
    finally:
        other.close()


def test_a_client_that_goes_while_its_job_runs_leaves_the_line_in_order(
    plc: PlcClient, controller: OpcUaController, line: RunningLine
) -> None:
    other = PlcClient(controller.name)
    job = other.start("left behind")
    other.close()
    line.side.verdict = judged("NG", 0.8)
    assert plc.result(job)[:2] == ("left behind", "NG")
    plc.await_state("Ready")


def test_events_come_to_those_who_subscribe_to_the_server_too(
    plc: PlcClient, controller: OpcUaController, line: RunningLine
) -> None:
    line.side.verdict = judged("OK", 0.2)
    messages: list[str] = []

    class Messages:
        def event_notification(self, event: Any) -> None:
            messages.append(event.Message.Text)

    with Client(controller.name) as client:
        client.create_subscription(20, Messages()).subscribe_events()
        plc.start("p")
        until(lambda: "part p: OK" in messages)


def test_clients_write_nothing_and_nobody_is_an_administrator(plc: PlcClient, controller: OpcUaController) -> None:
    for node in (
        plc.node("VisionStateMachine/0:CurrentState"),
        plc.node("ResultManagement/Results").get_children()[0],
        plc.get(f"{plc.line_prefix}Verdict"),
    ):
        with pytest.raises(uaerrors.BadUserAccessDenied):
            node.write_value(node.read_data_value())
    with pytest.raises(uaerrors.BadUserAccessDenied):
        plc.system.add_variable(2, "mine", 1)
    client = Client(controller.name)
    client.set_user("admin")
    with pytest.raises(ua.UaError):
        client.connect()
    client.tloop.stop()


def test_a_line_that_falls_silent_is_in_error_and_takes_no_job(plc: PlcClient, line: RunningLine) -> None:
    seen = plc.line("Watchdog")
    until(lambda: plc.line("Watchdog") != seen)
    job = plc.start("stuck")
    until(lambda: line.side.parts)
    line.silent = True
    plc.await_state("Error")
    assert plc.result(job) == ("stuck", "INVALID", None, "the line has not answered for 0.5 s", 4)
    assert plc.event("ErrorEventType").Message.Text == "the line has not answered for 0.5 s"
    with pytest.raises(uaerrors.BadInvalidState):
        plc.start("p")
    line.silent = False
    plc.await_state("Ready")
    line.side.verdict = judged("OK", 0.1)
    assert plc.result(plc.start("again"))[:2] == ("again", "OK")
    assert [part for part, _ in line.side.errors] == ["stuck"]


def test_results_are_found_by_their_ids(plc: PlcClient, line: RunningLine) -> None:
    jobs = []
    for part, verdict in (("a", "OK"), ("b", "NG"), ("a", "NG")):
        line.side.verdict = judged(verdict, 0.5)  # type: ignore[arg-type]
        jobs.append(plc.start(part))
        plc.result(jobs[-1])
        plc.await_state("Ready")

    def found(part: str = "", job: str = "", state: int = 0, most: int = 3, start: int = 0) -> tuple[bool, list[str]]:
        empty = [ua.RecipeIdExternalDataType(), ua.RecipeIdInternalDataType(), *[ua.ConfigurationIdDataType()] * 2]
        complete, count, _, results, error = plc.call(
            "ResultManagement/GetResultListFiltered",
            ua.Variant(state, ua.VariantType.Int32),
            ua.MeasIdDataType(),
            ua.PartIdDataType(Id=part),
            *empty,
            ua.ProductIdDataType(),
            ua.JobIdDataType(Id=job),
            ua.Variant(most, ua.VariantType.UInt32),
            ua.Variant(start, ua.VariantType.UInt32),
            NO_TIMEOUT,
        )
        assert (count, error) == (len(results), 0)
        return complete, [result.JobId.Id for result in results]

    assert found(part="a", job=jobs[0]) == (True, [jobs[0]])
    assert found(part="b", most=1)[1] == [jobs[1]]
    assert found(most=2) == (False, [jobs[2], jobs[1]])
    assert found(most=1, start=2)[1] == [jobs[0]]
    assert found(job=jobs[0], state=3) == (True, [])
    fields = plc.call("ResultManagement/GetResultComponentsById", ua.ResultIdDataType(Id=jobs[1]), NO_TIMEOUT)
    assert (fields[4], fields[6].Id, fields[12].Id, fields[-1]) == (1, "b", jobs[1], 0)
    assert fields[-2][0].Value == "NG"


def test_a_result_that_is_not_there_is_an_error_and_invalid(plc: PlcClient) -> None:
    for name in ("GetResultById", "GetResultComponentsById"):
        outputs = plc.call(f"ResultManagement/{name}", ua.ResultIdDataType(Id="unknown"), NO_TIMEOUT)
        assert outputs[-1] == NOT_FOUND
    _, result, _ = plc.call("ResultManagement/GetResultById", ua.ResultIdDataType(Id=""), NO_TIMEOUT)
    assert (result.ResultState, result.ResultContent[0].Value) == (0, "INVALID")


def test_the_last_results_are_kept_and_older_ones_go(plc: PlcClient, line: RunningLine) -> None:
    line.side.verdict = judged("OK", 0.5)
    first = plc.start("first")
    plc.result(first)
    for number in range(RECENT):
        plc.await_state("Ready")
        last = plc.start(str(number))
        plc.event("ResultReadyEventType", last)
    _, _, error = plc.call("ResultManagement/GetResultById", ua.ResultIdDataType(Id=first), NO_TIMEOUT)
    assert error == NOT_FOUND
    assert plc.result(last)[0] == str(RECENT - 1)


STRANGER = """
import sys
from asyncua import ua
from asyncua.sync import Client
with Client(sys.argv[1]) as client:
    client.load_data_type_definitions()
    standard = client.get_namespace_index(sys.argv[2])
    system = next(n for n in client.nodes.objects.get_children() if n.read_browse_name().Name == "VisionSystem")
    automatic = system.get_child([f"{standard}:VisionStateMachine", f"{standard}:AutomaticModeStateMachine"])
    kinds = ua.MeasIdDataType, ua.PartIdDataType, ua.RecipeIdExternalDataType, ua.ProductIdDataType
    job, error = automatic.call_method(
        f"{standard}:StartSingleJob", *[kind(Id=kind.__name__) for kind in kinds],
        ua.Variant([], ua.VariantType.Variant)
    )
    print(job.Id, error)
"""


def test_a_client_in_another_process_needs_to_know_nothing_of_us(
    plc: PlcClient, controller: OpcUaController, line: RunningLine
) -> None:
    """Where server and client are one process, they share the classes of the types."""
    line.side.verdict = judged("OK", 0.5)
    call = [sys.executable, "-c", STRANGER, controller.name, STANDARD]
    done = subprocess.run(call, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    job, error = done.stdout.split()
    assert error == "0"
    assert plc.result(job)[:2] == ("PartIdDataType", "OK")
    assert line.side.parts == [("PartIdDataType", "RecipeIdExternalDataType")]
