"""A stock OPC UA client: asyncua's own, which knows of the server what it browses."""

from __future__ import annotations

import math
from typing import Any

from asyncua import ua
from asyncua.sync import Client

from tests.waiting import until

STANDARD = "http://opcfoundation.org/UA/MachineVision"
OWN = "urn:simplenet-edge:line"
AUTOMATIC = "VisionStateMachine/AutomaticModeStateMachine"
EVENTS = (
    "JobStartedEventType",
    "StateChangedEventType",
    "ErrorEventType",
    "ErrorResolvedEventType",
    "ReadyEventType",
    "ResultReadyEventType",
)


class PlcClient:
    """Connects and subscribes to all events of the vision system; `events` are their types' names and themselves."""

    def __init__(self, url: str) -> None:
        self._client = Client(url, timeout=30)
        try:
            self._client.connect()
        except BaseException:
            self._client.tloop.stop()
            raise
        self._client.load_data_type_definitions()
        self._standard = self._client.get_namespace_index(STANDARD)
        own = self._client.get_namespace_index(OWN)
        self.line_prefix = f"ns={own};s=VisionSystem.Line."
        self.system = self._client.nodes.objects.get_child(f"{own}:VisionSystem")
        self.events: list[tuple[str, Any]] = []
        base = self._client.nodes.base_event_type
        changed = base.get_child(["0:TransitionEventType"])
        types = {
            name: parent.get_child(f"{self._standard}:{name}")
            for parent, names in ((changed, EVENTS[1:4]), (base, (EVENTS[0], *EVENTS[4:])))
            for name in names
        }
        self._names = {node.nodeid: name for name, node in types.items()}
        self._subscription = self._client.create_subscription(20, self)
        self._subscription.subscribe_events(self.system, list(types.values()))

    def event_notification(self, event: Any) -> None:
        self.events.append((self._names[event.EventType], event))

    def close(self) -> None:
        self._client.disconnect()

    def node(self, path: str) -> Any:
        """By names of the specification, `0:` before those of OPC UA itself."""
        names = [name if ":" in name else f"{self._standard}:{name}" for name in path.split("/")]
        return self.system.get_child(names)

    def get(self, nodeid: str) -> Any:
        return self._client.get_node(nodeid)

    def line(self, name: str) -> Any:
        return self.get(f"{self.line_prefix}{name}").read_value()

    def call(self, path: str, *arguments: Any) -> Any:
        parent, _, name = path.rpartition("/")
        return self.node(parent).call_method(f"{self._standard}:{name}", *arguments)

    def cause(self, path: str) -> Any:
        return self.call(path, ua.Variant(7, ua.VariantType.Int32), "a test")

    def start(self, part_id: str, recipe: str = "", meas_id: str = "", product_id: str = "") -> str:
        """The id of the job."""
        job, error = self.call(f"{AUTOMATIC}/StartSingleJob", *job_arguments(part_id, recipe, meas_id, product_id))
        assert error == 0
        return str(job.Id)

    def state(self) -> str:
        """Of the automatic mode, or where that isn't active of the vision system."""
        state = str(self.node("VisionStateMachine/0:CurrentState").read_value().Text)
        if state != "Operational":
            return state
        try:
            return str(self.node(f"{AUTOMATIC}/0:CurrentState").read_value().Text)
        except ua.uaerrors.BadStateNotActive:
            return self.state()  # it has just changed

    def await_state(self, state: str) -> None:
        until(lambda: self.state() == state, f"the state {state}")

    def event(self, name: str, job_id: str | None = None) -> Any:
        """The first event of that type, and of that job, waited for."""

        def matching() -> list[Any]:
            named = [event for kind, event in self.events if kind == name]
            return [event for event in named if job_id is None or event.JobId.Id == job_id]

        until(matching, f"{name} of {job_id}")
        return matching()[0]

    def result(self, job_id: str) -> tuple[str, str, float | None, str, int]:
        """Part, verdict, score, reason and state, from the event; the same as fetched by its id."""
        event = self.event("ResultReadyEventType", job_id)
        handle, fetched, error = self.call(
            "ResultManagement/GetResultById", event.ResultId, ua.Variant(0, ua.VariantType.Int32)
        )
        assert (handle, error) == (0, 0)
        assert fetched.PartId == event.PartId
        assert fetched.ResultState == event.ResultState
        values = [variant.Value for variant in event.ResultContent]
        assert str(values) == str([variant.Value for variant in fetched.ResultContent])
        verdict, score, reason = values
        return event.PartId.Id, verdict, None if math.isnan(score) else score, reason, event.ResultState


def job_arguments(part_id: str, recipe: str = "", meas_id: str = "", product_id: str = "") -> list[Any]:
    return [
        ua.MeasIdDataType(Id=meas_id),
        ua.PartIdDataType(Id=part_id),
        ua.RecipeIdExternalDataType(Id=recipe),
        ua.ProductIdDataType(Id=product_id),
        ua.Variant([], ua.VariantType.Variant, is_array=True),
    ]
