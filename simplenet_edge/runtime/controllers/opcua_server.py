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
_LAST_NEWS_S = 0.2
_TYPE_IDS = {  # numbers of the NodeSet, here and below
    "VisionSystemType": 1003,
    "ResultManagementType": 1007,
    "ResultFolderType": 1016,
    "VisionAutomaticModeStateMachineType": 1021,
    "ResultType": 2002,
}
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
_ROUTINE, _ERROR = 100, 800  # severities, from 1 to 1000

logging.getLogger("asyncua").setLevel(logging.WARNING)  # otherwise it tells of every client
# It warns of each attribute that a type of variables doesn't have and a variable does.
logging.getLogger("asyncua.common.copy_node_util").setLevel(logging.ERROR)


class VisionServer:
    """Serves `system` at `url`, such as `opc.tcp://127.0.0.1:4840/simplenet-edge`, anonymous and without encryption.

    `start` raises OSError where it can't listen.
    """

    def __init__(self, url: str, system: VisionSystem) -> None:
        self._system = system
        self._server = Server()
        self._url = url
        self._results = Results()
        self._events: dict[str, Event] = {}
        self._nodes: dict[str, Node] = {}  # by their path below the vision system
        self._shown = StateChanged("Preoperational", None)
        self._written: dict[ua.NodeId, ua.Variant] = {}
        self._watchdog = False
        self._last_job = ""
        self._writing = asyncio.Lock()
        self._woken = asyncio.Event()
        self._ending = False

    async def start(self) -> None:
        """Build everything, show Preoperational, listen."""
        server = self._server
        await server.init()
        server.set_endpoint(self._url)
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
        """Tell clients the news until `end`, and look whether the line still lives."""
        loop = asyncio.get_running_loop()
        while not self._ending:
            tick = loop.call_later(_TICK_S, self._woken.set)
            await self._woken.wait()
            tick.cancel()
            self._woken.clear()
            self._system.watch()
            await self.publish()

    def end(self) -> None:
        """Let `run` end. In the loop's thread."""
        self._ending = True
        self._woken.set()

    def wake(self, watchdog: bool) -> None:
        """There is news, or the watchdog has changed. In the loop's thread."""
        self._watchdog = watchdog
        self._woken.set()

    async def stop(self) -> None:
        """Tell the last news, give subscriptions the time to carry it, close all connections, free the port."""
        await self.publish()
        await asyncio.sleep(_LAST_NEWS_S)
        await self._server.stop()

    async def _build(self) -> None:
        """The vision system with what the specification demands, and of its options those that are filled."""
        server = self._server
        self._root = await self._instance(server.nodes.objects, "VisionSystemType", "VisionSystem", self._own)
        machine = await self._at("VisionStateMachine")
        await self._instance(machine, "VisionAutomaticModeStateMachineType", "AutomaticModeStateMachine")
        error = ua.Argument(Name="Error", DataType=ua.NodeId(ua.ObjectIds.Int32), ValueRank=ua.ValueRank.Scalar)
        await machine.add_method(
            *self._names(machine, "SelectModeAutomatic", self._standard), lambda parent: None, [], [error]
        )
        results = await self._instance(self._root, "ResultManagementType", "ResultManagement")
        folder = await self._instance(results, "ResultFolderType", "Results")
        await self._add_latest(folder)
        for number, state in enumerate(("Preoperational", "Halted", "Error", "Operational"), 1):
            await self._write(
                await self._at(f"VisionStateMachine/{state}/0:StateNumber"), ua.Variant(number, ua.VariantType.UInt32)
            )
        await self._root.set_event_notifier([ua.EventNotifier.SubscribeToEvents])
        for event, number in _EVENT_IDS.items():
            self._events[event] = await get_event_obj_from_type_node(server.get_node(ua.NodeId(number, self._standard)))
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

    def _names(self, parent: Node, name: str, namespace: int) -> tuple[ua.NodeId, ua.QualifiedName]:
        path = name if parent == self._server.nodes.objects else f"{parent.nodeid.Identifier}.{name}"
        return ua.NodeId(path, self._own), ua.QualifiedName(name, namespace)

    async def _instance(
        self, parent: Node, kind: str, name: str, namespace: int | None = None, *, options: bool = False
    ) -> Node:
        """One of a type of the specification, with its mandatory children, or with all."""
        nodeid, browse_name = self._names(parent, name, namespace or self._standard)
        type_node = self._server.get_node(ua.NodeId(_TYPE_IDS[kind], self._standard))
        made = await instantiate(
            parent, type_node, nodeid, browse_name, ua.LocalizedText(name), instantiate_optional=options
        )
        return made[0]

    async def _add_latest(self, folder: Node) -> None:
        self._latest = await self._instance(folder, "ResultType", "Latest", self._own, options=True)
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
