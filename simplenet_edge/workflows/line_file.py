"""A whole line in one TOML file: recipes, cameras, sinks and limits; everything wrong with it is said at once."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from simplenet_edge.bundle import Bundle
from simplenet_edge.engines.selection import choose_engine
from simplenet_edge.errors import ConfigError, SimpleNetEdgeError
from simplenet_edge.runtime.http_server import parse_address
from simplenet_edge.runtime.line.line import LineConfig, conflicts
from simplenet_edge.runtime.sources import Source, open_source
from simplenet_edge.workflows.run_line import RecipeBundle, Station, StationOptions, read_address, sink_makers

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read_line_file"]

_MIB = 2**20


@dataclass(frozen=True)
class _Kind:
    """What a value has to be, and what becomes of it."""

    expected: str
    fits: Callable[[Any], bool]
    convert: Callable[[Any], Any] = lambda value: value


_TEXT = _Kind("text", lambda value: isinstance(value, str) and bool(value.strip()))
_PATH = _Kind("a path", _TEXT.fits, Path)
_FLAG = _Kind("true or false", lambda value: isinstance(value, bool))
_WHOLE = _Kind("a whole number from 1", lambda value: type(value) is int and value >= 1)
_NUMBER = _Kind("a number from 0", lambda value: type(value) in (int, float) and 0 <= value < float("inf"), float)
_MEBIBYTES = _Kind("MiB, a whole number from 1", _WHOLE.fits, lambda value: value * _MIB)

# Section and key: the field of StationOptions, and what its value has to be.
_SECTIONS: Mapping[str, Mapping[str, tuple[str, _Kind]]] = {
    "line": {
        "engine": ("engine", _TEXT),
        "precision": ("precision", _TEXT),
        "threads": ("threads", _WHOLE),
        "check": ("check", _FLAG),
        "shadow": ("shadow", _PATH),
        "deadline_ms": ("deadline_ms", _NUMBER),
        "watch": ("watch", _TEXT),
        "bad_share": ("bad_share", _NUMBER),
        "false_rejects": ("false_rejects", _NUMBER),
        "strict": ("strict", _FLAG),
        "recipe_memory_mib": ("recipe_memory_bytes", _MEBIBYTES),
    },
    "records": {
        "jsonl": ("jsonl", _PATH),
        "rotate_mib": ("rotate_bytes", _MEBIBYTES),
        "fsync_s": ("fsync_s", _NUMBER),
        "spool": ("spool", _PATH),
    },
    "overlays": {
        "folder": ("overlays", _PATH),
        "which": ("overlay", _TEXT),
        "quota_mib": ("quota_bytes", _MEBIBYTES),
    },
    "keep": {
        "folder": ("keep", _PATH),
        "ok_share": ("keep_ok", _NUMBER),
        "quota_mib": ("keep_quota_bytes", _MEBIBYTES),
    },
    "monitor": {"serve": ("serve", _TEXT), "token_file": ("token_file", _PATH)},
}
_RECIPE: Mapping[str, _Kind] = {"name": _TEXT, "bundle": _PATH, "number": _WHOLE}


def read_line_file(path: Path) -> Station:
    """The station that the file describes, bundles and addresses checked. Paths are relative to the file's folder.

    Nothing is connected to, and nothing written. Raises ConfigError with a line for each fault.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: expected a line's TOML file ({error})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: this is not TOML: {error}") from error
    reader = _Reader(path)
    found = reader.read(content)
    if reader.faults:
        raise ConfigError("\n".join(f"{path}: {fault}" for fault in reader.faults))
    return found


class _Reader:
    """Reads all it can, and keeps what is wrong."""

    def __init__(self, path: Path) -> None:
        self.faults: list[str] = []
        self._folder = path.parent

    def read(self, content: dict[str, Any]) -> Station:
        known = [*_SECTIONS, "recipe", "camera", "sink"]
        self.faults += [f"{name}: expected one of {', '.join(known)}" for name in content if name not in known]
        fields: dict[str, Any] = {}
        for section, keys in _SECTIONS.items():
            table = content.get(section, {})
            if not isinstance(table, dict):
                self.faults.append(f"{section}: expected a table [{section}]")
                continue
            for key, value in self._values(f"[{section}]", table, {key: kind for key, (_, kind) in keys.items()}):
                fields[keys[key][0]] = value
        recipes = self._recipes(self._tables(content, "recipe"))
        sources = self._cameras(self._tables(content, "camera"))
        named = [self._values(where, table, {"to": _TEXT}, "to") for where, table in self._tables(content, "sink")]
        fields["addresses"] = tuple(self._placed(address) for values in named for _, address in values)
        options = self._try("", lambda: StationOptions(**fields)) or StationOptions(addresses=fields["addresses"])
        self._check(options, [recipe.bundle for recipe in recipes])
        sinks = [self._try(where, make) for where, make in sink_makers(options, sources)]
        if not self.faults:
            self.faults += conflicts(sources, sinks)
        return Station(recipes, sources, sinks, options)

    def _tables(self, content: dict[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
        tables = content.get(name, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            self.faults.append(f"{name}: expected tables [[{name}]]")
            return []
        if not tables and name != "sink":
            self.faults.append(f"expected at least one [[{name}]]")
        return [(f"{name} {number}", table) for number, table in enumerate(tables, 1)]

    def _values(
        self, where: str, table: dict[str, Any], kinds: Mapping[str, _Kind], *required: str
    ) -> list[tuple[str, Any]]:
        values = []
        if missing := [key for key in required if key not in table]:
            self.faults.append(f"{where}: {' and '.join(missing)} missing")
        for key, value in table.items():
            kind = kinds.get(key)
            if kind is None:
                self.faults.append(f"{where}: no key {key!r}; expected {', '.join(kinds)}")
            elif not kind.fits(value):
                self.faults.append(f"{where}: {key} must be {kind.expected}, not {value!r}")
            else:
                converted = kind.convert(value)
                values.append((key, self._folder / converted if isinstance(converted, Path) else converted))
        return values

    def _recipes(self, tables: Sequence[tuple[str, dict[str, Any]]]) -> list[RecipeBundle]:
        recipes: list[RecipeBundle] = []
        for where, table in tables:
            values = dict(self._values(where, table, _RECIPE, "name", "bundle"))
            if {"name", "bundle"} <= values.keys():
                recipes.append(RecipeBundle(**values))
        called = [text for recipe in recipes for text in (recipe.name, recipe.number and str(recipe.number)) if text]
        for text in sorted({text for text in called if called.count(text) > 1}):
            self.faults.append(f"recipe: {text} is there twice; give each a name and a number of its own")
        return recipes

    def _cameras(self, tables: Sequence[tuple[str, dict[str, Any]]]) -> list[Source]:
        found: list[Source | None] = []
        for where, table in tables:
            of_camera = {key: table[key] for key in table if key == "address"}
            values = dict(self._values(where, of_camera, {"address": _TEXT}, "address"))
            options = [f"{key}={quote(_option(table[key]), safe=',:/')}" for key in table if key != "address"]
            if values:
                found.append(self._try(where, partial(_source, self._placed(values["address"]), options)))
        return [source for source in found if source is not None]

    def _check(self, options: StationOptions, paths: Sequence[Path]) -> None:
        """What a line would only find out when it starts."""
        self._try("[line]", lambda: LineConfig(options.deadline_ms))
        self._try("[line]", lambda: choose_engine(options.engine, options.precision))
        if options.serve is not None:
            self._try("[monitor]", partial(parse_address, options.serve))
        depths = set()
        for path in (*paths, *([options.shadow] if options.shadow else [])):
            if (bundle := self._try("bundle", partial(Bundle, path))) is not None:
                self._try(f"bundle {path}", partial(bundle.record, options.precision))
                depths.add(bundle.manifest.input.bit_depth)
        if len(depths) > 1:
            self.faults.append(f"expected bundles of one bit depth, found {sorted(depths)}; train some of them anew")

    def _placed(self, address: str) -> str:
        """The address; where it is a path, relative to the file's folder."""
        kind, path = re.fullmatch(r"(watch:|@)?(.*)", address, re.DOTALL).groups(default="")  # type: ignore[union-attr]
        if not kind and re.match(r"[A-Za-z0-9.+-]+:|[0-9]+(#|$)|-$", path):
            return address
        return f"{kind}{self._folder / path}"

    def _try(self, where: str, make: Callable[[], Any]) -> Any:
        try:
            return make()
        except SimpleNetEdgeError as error:
            self.faults.append(f"{where}: {error}" if where else str(error))
            return None


def _source(address: str, options: Sequence[str]) -> Source:
    whole = read_address(address)
    return open_source(whole + ("&" if "#" in whole else "#") * bool(options) + "&".join(options))


def _option(value: Any) -> str:
    """A TOML value as it stands in an address."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
