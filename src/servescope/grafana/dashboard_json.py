"""The JSON of any Grafana dashboard, in the one form that the package reads.

What Grafana may leave out gets its default, null counts as left out, and older forms (a datasource by its name) become
the present one. Fields that the package does not read stay as they are and are not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from servescope.errors import ServescopeError
from servescope.json_types import Json

# Returns the value in its one form; takes the value and its place in the document, for the error.
Check = Callable[[Any, str], Any]

_MOST = 1e30  # beyond it a number of a dashboard is a mistake


def checked(document: Any) -> Json:
    """A dashboard in its one form.

    Raises:
        ServescopeError: it is no dashboard, or a field has another type; the line names the field.
    """
    result: Json = _DASHBOARD(document, "dashboard")
    return result


def _refused(place: str, wanted: str, value: Any) -> ServescopeError:
    text = repr(value)
    return ServescopeError(f"{place}: expected {wanted}, got {text if len(text) <= 60 else text[:60] + '...'}")


def _text(value: Any, place: str) -> str:
    if not isinstance(value, str):
        raise _refused(place, "a string", value)
    return value


def _filled_text(value: Any, place: str) -> str:
    text = _text(value, place)
    if not text:
        raise _refused(place, "a string that is not empty", value)
    return text


def _refresh(value: Any, place: str) -> str:
    return "" if value is False else _text(value, place)


def _flag(value: Any, place: str) -> bool:
    return bool(value)


def _number(value: Any, place: str) -> float:
    if not isinstance(value, (int, float)) or not -_MOST <= value <= _MOST:  # also no NaN
        raise _refused(place, "a number", value)
    return value


def _bound(value: Any, place: str) -> float | None:
    return None if value is None else _number(value, place)


def _whole(low: int, high: int) -> Check:
    def check(value: Any, place: str) -> int:
        if not isinstance(value, (int, float)) or not low <= value <= high or value != int(value):
            raise _refused(place, f"an integer from {low} to {high}", value)
        return int(value)

    return check


def _list(check: Check) -> Check:
    def check_all(value: Any, place: str) -> list[Any]:
        if not isinstance(value, list):
            raise _refused(place, "a list", value)
        return [check(item, f"{place}[{index}]") for index, item in enumerate(value)]

    return check_all


def _mapping_of(check: Check) -> Check:
    def check_all(value: Any, place: str) -> Json:
        if not isinstance(value, dict):
            raise _refused(place, "a mapping", value)
        return {key: check(item, f"{place}.{key}") for key, item in value.items()}

    return check_all


def _fields(checks: Mapping[str, Check], defaults: Mapping[str, Any] | None = None) -> Check:
    """A mapping with these fields; those with a default are there afterwards, the others where they were not null."""

    def check(value: Any, place: str) -> Json:
        if not isinstance(value, dict):
            raise _refused(place, "a mapping", value)
        result = dict(value)
        for name, check_field in checks.items():
            held = result.pop(name, None)
            if held is None and defaults and name in defaults:
                held = defaults[name]
                if held is None:
                    result[name] = None
            if held is not None:
                result[name] = check_field(held, f"{place}.{name}".removeprefix("dashboard."))
        return result

    return check


def _needed(check: Check, *names: str) -> Check:
    def check_all(value: Any, place: str) -> Any:
        for name in names:
            if isinstance(value, dict) and value.get(name) is None:
                raise ServescopeError(f"{place}: {name} is missing")
        return check(value, place)

    return check_all


# ---------------------------------------------------------------------------------------------------------------------
# Panels

_SHOWN = _fields({"text": _text, "color": _text})
_OF_MAPPING = {
    "value": _mapping_of(_SHOWN),
    "range": _fields({"from": _bound, "to": _bound, "result": _SHOWN}, {"result": {}}),
}


def _value_mapping(value: Any, place: str) -> Json:
    result: Json = _fields({"type": _text, "options": _mapping_of(_as_it_is)}, {"type": "", "options": {}})(
        value, place
    )
    if result["type"] in _OF_MAPPING:
        result["options"] = _OF_MAPPING[result["type"]](result["options"], f"{place}.options")
    return result


def _as_it_is(value: Any, place: str) -> Any:
    return value


_STEP = _fields({"value": _bound, "color": _text}, {"value": None, "color": ""})
_CONFIG: dict[str, Check] = {
    "unit": _text,
    "decimals": _whole(0, 20),
    "min": _number,
    "max": _number,
    "noValue": _text,
    "thresholds": _fields({"steps": _list(_STEP)}),
    "mappings": _list(_value_mapping),
    "links": _list(_fields({"url": _text, "title": _text}, {"url": ""})),
    "color": _fields({"mode": _text, "fixedColor": _text}, {"fixedColor": ""}),
}
_CUSTOM: dict[str, Check] = {
    "fillOpacity": _number,
    "stacking": _fields({}),
    "lineStyle": _fields({}),
    "thresholdsStyle": _fields({}),
    "cellOptions": _fields({}),
}
_PROPERTIES = _CONFIG | {f"custom.{name}": check for name, check in _CUSTOM.items()}


def _matcher(value: Any, place: str) -> Json:
    result: Json = _fields({"id": _text}, {"id": "", "options": None})(value, place)
    options = result.setdefault("options", None)
    if result["id"] == "byRegexp":
        try:
            re.compile(_text(options, f"{place}.options").strip("/"))
        except (re.error, OverflowError, RecursionError) as error:
            raise ServescopeError(f"{place}.options: {options!r} is not a regular expression ({error})") from None
    return result


def _override(value: Any, place: str) -> Json:
    override = _fields(
        {"matcher": _matcher, "properties": _list(_fields({"id": _text}, {"id": ""}))},
        {"matcher": {}, "properties": []},
    )
    result: Json = override(value, place)
    properties = []
    for index, item in enumerate(result["properties"]):
        held = item.get("value")
        if held is not None and item["id"] in _PROPERTIES:
            item["value"] = _PROPERTIES[item["id"]](held, f"{place}.properties[{index}].value")
        if held is not None:
            properties.append(item)
    return result | {"properties": properties}


_TRANSFORMATION = _fields(
    {
        "id": _text,
        "options": _fields(
            {
                "include": _fields({"names": _list(_as_it_is)}),
                "excludeByName": _mapping_of(_as_it_is),
                "indexByName": _mapping_of(_number),
                "renameByName": _mapping_of(_text),
            }
        ),
    },
    {"id": "", "options": {}},
)
_OPTIONS = _fields(
    {
        "content": _text,
        "legend": _fields({"sortDesc": _flag}),
        "yAxis": _fields({"unit": _text}),
        "cellValues": _fields({"unit": _text}, {"unit": ""}),
        "sortBy": _list(_fields({"displayName": _text, "desc": _flag}, {"displayName": ""})),
    },
    {"content": "", "yAxis": {}, "cellValues": {}},
)
_CORNER, _PLACE = {"x": 0, "y": 0, "w": 12, "h": 8}, _whole(0, 1_000_000)
_PLAIN_PANEL = _fields(
    {
        "type": _text,
        "title": _text,
        "description": _text,
        "gridPos": _fields({"x": _PLACE, "y": _PLACE, "w": _whole(1, 24), "h": _PLACE}, _CORNER),
        "options": _OPTIONS,
        "fieldConfig": _fields(
            {"defaults": _fields(_CONFIG | {"custom": _fields(_CUSTOM)}), "overrides": _list(_override)}
        ),
        "transformations": _list(_TRANSFORMATION),
        "targets": _list(
            _fields({"expr": _text, "refId": _text, "legendFormat": _text}, {"refId": "", "legendFormat": ""})
        ),
        "repeat": _text,
        "maxPerRow": _whole(1, 24),
    },
    {"type": "", "title": "", "gridPos": {}, "options": {}},
)


def _panel(value: Any, place: str) -> Json:
    """A panel, or a row with panels. A target without a datasource has its panel's, and else the default one."""
    result: Json = _PLAIN_PANEL(value, place)
    if result["type"] == "row":
        return result | {"panels": _list(_panel)(result.get("panels") or [], f"{place}.panels")}
    result.pop("panels", None)
    of_panel = result.get("datasource")
    for target in result.get("targets", []):
        target["datasource"] = _datasource(target.get("datasource")) or _datasource(of_panel) or {}
        target["datasource"].setdefault("type", "prometheus" if "expr" in target else "unknown")
        target.setdefault("expr", "")
    return result


def _datasource(value: Any) -> Json | None:
    return dict(value) if isinstance(value, dict) and isinstance(value.get("type"), str) else None


# ---------------------------------------------------------------------------------------------------------------------
# Dashboards


def _query(value: Any, place: str) -> Any:
    return value if isinstance(value, str) else _fields({"query": _text}, {"query": ""})(value, place)


_VARIABLE = _needed(
    _fields(
        {"name": _filled_text, "type": _text, "query": _query, "allValue": _text, "current": _fields({})},
        {"type": "", "query": ""},
    ),
    "name",
)
_ANNOTATION = _fields(
    {"name": _text, "expr": _text, "titleFormat": _text, "textFormat": _text, "iconColor": _text}, {"name": ""}
)
_DASHBOARD = _needed(
    _fields(
        {
            "uid": _filled_text,
            "title": _text,
            "description": _text,
            "refresh": _refresh,
            "time": _fields({"from": _text, "to": _text}, {"from": "now-1h", "to": "now"}),
            "panels": _list(_panel),
            "templating": _fields({"list": _list(_VARIABLE)}, {"list": []}),
            "annotations": _fields({"list": _list(_ANNOTATION)}, {"list": []}),
        },
        {"time": {}, "annotations": {}, "description": ""},
    ),
    "uid",
    "title",
    "panels",
    "templating",
)
