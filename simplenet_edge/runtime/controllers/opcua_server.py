"""The address space of OPC 40100-1 (Machine Vision), filled from a `VisionSystem`.

All of it runs in one event loop; the line's thread only calls `wake`. Node ids are strings made of the path, such as
`VisionSystem.VisionStateMachine.CurrentState`, so that they stay the same from version to version. Clients can call
methods and write nothing.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import math
import re
import uuid
from datetime import datetime, timezone
from importlib import resources
from typing import Any

from asyncua import Node, Server, ua
from asyncua.common.events import Event, get_event_obj_from_type_node
from asyncua.common.instantiate_util import instantiate

from simplenet_edge.runtime.controllers.opcua_methods import Methods
from simplenet_edge.runtime.controllers.opcua_results import RESULT_FIELDS, Results, as_variant, result_of
from simplenet_edge.runtime.controllers.vision_system import (
    JobEnded,
    JobStarted,
    Notice,
    StateChanged,
    VisionSystem,
)

__all__ = ["NAMESPACE", "VisionServer"]

NAMESPACE = "urn:simplenet-edge"
_MACHINE_VISION = "http://opcfoundation.org/UA/MachineVision"
_NODESET = "Opc.Ua.MachineVision.NodeSet2.xml.gz"
_TICK_S = 0.25
_VISION_SYSTEM, _RESULT = 1003, 2002  # numbers of the NodeSet
_STATE_IDS = {
    "Preoperational": 5028,
    "Halted": 5029,
    "Error": 5030,
    "Operational": 5031,
    "Initialized": 5056,
    "Ready": 5057,
    "SingleExecution": 5058,
}
_EVENT_IDS = {
    "JobStartedEventType": 1013,
    "StateChangedEventType": 1018,
    "ErrorEventType": 1019,
    "ErrorResolvedEventType": 1020,
    "ReadyEventType": 1023,
    "ResultReadyEventType": 1024,
}
_LEFT_OUT = (
    "ConfigurationManagement",
    "DiagnosticLevel",
    "SafetyStateManagement",
    "SystemState",
    "RecipeManagement",
    "ResultManagement/ReleaseResultHandle",
    "ResultManagement/ResultTransfer",
    "VisionStateMachine/ConfirmAll",
    "VisionStateMachine/ErrorStepModel",
    "VisionStateMachine/HaltedStepModel",
    "VisionStateMachine/PreoperationalStepModel",
    "VisionStateMachine/AutomaticModeStateMachine/ContinuousExecutionStepModel",
    "VisionStateMachine/AutomaticModeStateMachine/InitializedStepModel",
    "VisionStateMachine/AutomaticModeStateMachine/ReadyStepModel",
    "VisionStateMachine/AutomaticModeStateMachine/SingleExecutionStepModel",
    "VisionStateMachine/AutomaticModeStateMachine/SimulationMode",
)
_ROUTINE, _ERROR = 100, 800  # severities, from 1 to 1000

# It warns of each attribute that a type of variables doesn't have and a variable does.
logging.getLogger("asyncua.common.copy_node_util").setLevel(logging.ERROR)


class VisionServer:
    """Serves `system` at `opc.tcp://host:port/simplenet-edge`, anonymous and without encryption.

    `start` raises OSError where it can't listen.
    """

    def __init__(self, host: str, port: int, system: VisionSystem) -> None:
        self._system = system
        self._server = Server()
        self._address = (host, port)
        self._results = Results()
        self._events: dict[str, Event] = {}
        self._nodes: dict[str, Node] = {}  # by their path below the vision system
        self._shown = StateChanged("Preoperational", None)
        self._written: dict[ua.NodeId, ua.Variant] = {}
        self._watchdog = False
        self._last_job = ""
        self._writing = asyncio.Lock()
        self._woken = asyncio.Event()

    async def start(self) -> None:
        """Build everything, show Preoperational, listen."""
        server, (host, port) = self._server, self._address
        await server.init()
        server.set_endpoint(f"opc.tcp://{f'[{host}]' if ':' in host else host}:{port}/simplenet-edge")
        server.set_server_name("SimpleNet Edge")
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        server.set_identity_tokens([ua.AnonymousIdentityToken])
        server.allow_remote_admin(False)
        await server.set_application_uri(NAMESPACE)
        await server.import_xml(xmlstring=_nodeset())
        self._standard = await server.get_namespace_index(_MACHINE_VISION)
        self._own = await server.register_namespace(f"{NAMESPACE}:line")
        await self._build()
        await self._show_state(self._shown)
        await self._show_result(result_of(None))
        await server.start()

    async def run(self) -> None:
        """Tell clients the news until cancelled, and look whether the line still lives."""
        while True:
            try:
                await asyncio.wait_for(self._woken.wait(), _TICK_S)
            except asyncio.TimeoutError:
                self._system.watch()
            self._woken.clear()
            await self.publish()

    def wake(self, watchdog: bool) -> None:
        """There is news, or the watchdog has changed. In the loop's thread."""
        self._watchdog = watchdog
        self._woken.set()

    async def stop(self) -> None:
        """Tell the last news, close all connections, free the port."""
        await self.publish()
        await self._server.stop()

    async def _build(self) -> None:
        server = self._server
        kind = server.get_node(ua.NodeId(_VISION_SYSTEM, self._standard))
        name = ua.QualifiedName("VisionSystem", self._own)
        nodeid = ua.NodeId("VisionSystem", self._own)
        self._root = (await instantiate(server.nodes.objects, kind, nodeid, name, ua.LocalizedText("VisionSystem")))[0]
        for path in _LEFT_OUT:
            await server.delete_nodes([await self._at(path)], recursive=True)
        for number, state in enumerate(("Preoperational", "Halted", "Error", "Operational"), 1):
            await self._write(
                await self._at(f"VisionStateMachine/{state}/0:StateNumber"), ua.Variant(number, ua.VariantType.UInt32)
            )
        await self._root.set_event_notifier([ua.EventNotifier.SubscribeToEvents])
        for event, number in _EVENT_IDS.items():
            self._events[event] = await get_event_obj_from_type_node(server.get_node(ua.NodeId(number, self._standard)))
        await self._add_latest()
        await self._add_line()
        methods = Methods(self._system, self._results, self.publish)
        for path, call in methods.table().items():
            server.link_method(await self._at(path), call)

    async def _at(self, path: str) -> Node:
        """The node at a path of names of the specification; `0:` before those of OPC UA itself."""
        if path not in self._nodes:
            names = [name if ":" in name else f"{self._standard}:{name}" for name in path.split("/")]
            self._nodes[path] = await self._root.get_child(names)
        return self._nodes[path]

    async def _add_latest(self) -> None:
        folder = await self._at("ResultManagement/Results")
        kind = self._server.get_node(ua.NodeId(_RESULT, self._standard))
        nodeid = ua.NodeId("VisionSystem.ResultManagement.Results.Latest", self._own)
        name = ua.QualifiedName("Latest", self._own)
        self._latest = (await instantiate(folder, kind, nodeid, name, ua.LocalizedText("Latest")))[0]
        self._latest_fields = [await self._latest.get_child(f"{self._standard}:{name}") for name in RESULT_FIELDS]
        anything = ua.DataValue(ua.Variant(ua.NodeId(ua.ObjectIds.BaseDataType)))  # the NodeSet leaves it open
        await self._latest_fields[-1].write_attribute(ua.AttributeIds.DataType, anything)

    async def _add_line(self) -> None:
        """The same as plain variables, for controllers that read neither structures nor events."""
        line = await self._root.add_object(ua.NodeId("VisionSystem.Line", self._own), f"{self._own}:Line")
        self._line = {}
        for name, value in (
            ("Watchdog", ua.Variant(False, ua.VariantType.Boolean)),
            ("JobId", ua.Variant("", ua.VariantType.String)),
            ("PartId", ua.Variant("", ua.VariantType.String)),
            ("Verdict", ua.Variant("INVALID", ua.VariantType.String)),
            ("Score", ua.Variant(math.nan, ua.VariantType.Double)),
            ("Reason", ua.Variant("", ua.VariantType.String)),
        ):
            nodeid = ua.NodeId(f"VisionSystem.Line.{name}", self._own)
            self._line[name] = await line.add_variable(nodeid, f"{self._own}:{name}", value)

    async def publish(self) -> None:
        """Write all the news, in its order."""
        async with self._writing:
            await self._write(self._line["Watchdog"], ua.Variant(self._watchdog, ua.VariantType.Boolean))
            for notice in self._system.take():
                await self._tell(notice)

    async def _tell(self, notice: Notice) -> None:
        if isinstance(notice, StateChanged):
            before, self._shown = self._shown, notice
            await self._show_state(notice)
            await self._announce_state(before, notice)
        elif isinstance(notice, JobStarted):
            self._last_job = notice.job.id
            await self._show_result(result_of(notice.job))
            await self._fire("JobStartedEventType", f"job {notice.job.id}", _ROUTINE, JobId=_job_id(notice.job.id))
        else:
            await self._announce_result(notice)

    async def _announce_result(self, ended: JobEnded) -> None:
        result = result_of(ended)
        self._results.add(result)
        await self._show_result(result)
        fields = {name: getattr(result, name) for name in RESULT_FIELDS if name != "HasTransferableDataOnFile"}
        severity = _ERROR if ended.verdict == "INVALID" else _ROUTINE
        await self._fire("ResultReadyEventType", f"part {ended.job.part_id}: {ended.verdict}", severity, **fields)

    async def _show_result(self, result: Any) -> None:
        """As `Latest` and in `Line`, where the verdict is never older than the part beside it."""
        verdict, score, reason = result.ResultContent
        line = self._line
        await self._write(line["Verdict"], ua.Variant("INVALID", ua.VariantType.String))
        await self._write(line["JobId"], ua.Variant(result.JobId.Id, ua.VariantType.String))
        await self._write(line["PartId"], ua.Variant(result.PartId.Id, ua.VariantType.String))
        await self._write(line["Score"], score)
        await self._write(line["Reason"], reason)
        await self._write(line["Verdict"], verdict)
        for node, name in zip(self._latest_fields, RESULT_FIELDS, strict=True):
            await self._write(node, as_variant(getattr(result, name)))
        await self._write(self._latest, as_variant(result))

    async def _show_state(self, now: StateChanged) -> None:
        await self._write_state("VisionStateMachine", now.state)
        await self._write_state("VisionStateMachine/AutomaticModeStateMachine", now.mode)

    async def _write_state(self, machine: str, state: str | None) -> None:
        node, id_node = await self._at(f"{machine}/0:CurrentState"), await self._at(f"{machine}/0:CurrentState/0:Id")
        if state is None:  # as OPC UA wants it of a state machine whose parent state is not the current one
            for inactive in (node, id_node):
                self._written.pop(inactive.nodeid, None)
                status = ua.StatusCode(ua.StatusCodes.BadStateNotActive)
                await inactive.write_value(ua.DataValue(ua.Variant(None), status))
        else:
            await self._write(id_node, ua.Variant(self._state_id(state), ua.VariantType.NodeId))
            await self._write(node, ua.Variant(ua.LocalizedText(state), ua.VariantType.LocalizedText))

    def _state_id(self, state: str) -> ua.NodeId:
        return ua.NodeId(_STATE_IDS[state], self._standard)

    async def _announce_state(self, before: StateChanged, now: StateChanged) -> None:
        for source, target in ((before.state, now.state), (before.mode, now.mode)):
            if source and target and source != target:
                await self._fire("StateChangedEventType", target, _ROUTINE, **self._step(source, target))
        if now.state == "Error":
            await self._fire("ErrorEventType", now.reason, _ERROR, **self._step(before.state, "Error"))
        elif before.state == "Error":
            await self._fire("ErrorResolvedEventType", "resolved", _ROUTINE, **self._step("Error", now.state))
        if now.mode == "Ready" and self._last_job:
            await self._fire("ReadyEventType", "ready", _ROUTINE, JobId=_job_id(self._last_job))
            self._last_job = ""

    def _step(self, source: str, target: str) -> dict[str, Any]:
        return {
            "FromState": ua.LocalizedText(source),
            "ToState": ua.LocalizedText(target),
            "Transition": ua.LocalizedText(f"{source}To{target}"),
            "FromState/Id": self._state_id(source),
            "ToState/Id": self._state_id(target),
        }

    async def _fire(self, kind: str, message: str, severity: int, **fields: Any) -> None:
        """An event of the vision system, to those who subscribed to it and to those who did to the server."""
        event = self._events[kind]
        event.add_property("Message", ua.LocalizedText(message), ua.VariantType.LocalizedText)
        event.add_property("Severity", severity, ua.VariantType.UInt16)
        event.add_property("SourceNode", self._root.nodeid, ua.VariantType.NodeId)
        event.add_property("SourceName", "VisionSystem", ua.VariantType.String)
        for name, value in fields.items():
            event.add_property(name, value, as_variant(value).VariantType)
        now = datetime.now(timezone.utc)
        event.add_property("EventId", uuid.uuid4().bytes, ua.VariantType.ByteString)
        event.add_property("Time", now, ua.VariantType.DateTime)
        event.add_property("ReceiveTime", now, ua.VariantType.DateTime)
        for emitter in (self._root.nodeid, ua.NodeId(ua.ObjectIds.Server)):
            event.emitting_node = emitter
            await self._server.iserver.subscription_service.trigger_event(event)

    async def _write(self, node: Node, value: ua.Variant) -> None:
        if self._written.get(node.nodeid) != value:
            self._written[node.nodeid] = value
            await node.write_value(value)


def _job_id(text: str) -> Any:
    return ua.JobIdDataType(Id=text)


def _nodeset() -> str:
    """The NodeSet of OPC 40100-1. Types that add nothing to their parent state its fields, as asyncua needs it."""
    packed = resources.files(__package__).joinpath(f"nodesets/{_NODESET}").read_bytes()
    text = gzip.decompress(packed).decode()
    parent = re.search(r'<Definition Name="1:BinaryIdBaseDataType">(.*?)</Definition>', text, re.DOTALL)
    assert parent is not None
    return re.sub(r'<Definition Name="(1:\w+)" />', rf'<Definition Name="\1">{parent[1]}</Definition>', text)
