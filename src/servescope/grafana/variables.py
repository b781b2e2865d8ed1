"""Template variables of dashboards."""

from __future__ import annotations

import grafanalib.core as gl

from servescope.grafana import panel_json
from servescope.grafana.model import PROMETHEUS, Variable
from servescope.json_types import Json

_VARIABLE_KEYS = ("allValue", "current", "datasource", "hide", "includeAll", "label", "multi", "name", "options")


def datasource_variable() -> Variable:
    """The choice of a Prometheus, so that the file works in any Grafana."""
    return _source_variable("datasource", "prometheus", "Data source")


def _source_variable(name: str, kind: str, title: str) -> Variable:
    template = gl.Template(name=name, type="datasource", query=kind, label=title)
    model = _variable_frame(template)
    del model["datasource"], model["allValue"]
    return Variable(name, model | {"current": {}, "query": kind, "refresh": 1, "regex": ""})


def logs_variable() -> Variable:
    """The Loki data source; the rows of logs query it when they are opened."""
    return _source_variable("logs", "loki", "Logs")


def traces_variable() -> Variable:
    """The Tempo data source, for the rows of traces and links to them."""
    return _source_variable("traces", "tempo", "Traces")


def text_variable(name: str, title: str) -> Variable:
    """A text box, empty at first."""
    model = _variable_frame(gl.Template(name=name, type="textbox", query="", label=title))
    for key in ("datasource", "allValue", "includeAll", "multi"):
        del model[key]
    empty = {"selected": True, "text": "", "value": ""}
    return Variable(name, model | {"current": empty, "options": [empty], "query": ""})


def label_variable(name: str, title: str, label_values: str, *, all_value: str) -> Variable:
    """A choice among the values of a label; All, the default, is a regular expression. Refreshed with the range."""
    template = gl.Template(
        name=name,
        query=label_values,
        label=title,
        dataSource=PROMETHEUS,
        includeAll=True,
        multi=True,
        allValue=all_value,
    )
    return Variable(
        name,
        _variable_frame(template)
        | {
            "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
            "definition": label_values,
            "query": {"qryType": 1, "query": label_values, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            "refresh": 2,
            "regex": "",
            "sort": 1,
        },
    )


def ranked_variable(name: str, title: str, vector: str) -> Variable:
    """A choice among the values of a label of this name, without All, in the order of an instant vector's answer."""
    query = f"query_result({vector})"
    template = gl.Template(name=name, query=query, label=title, dataSource=PROMETHEUS, multi=True)
    model = _variable_frame(template)
    del model["allValue"]
    return Variable(
        name,
        model
        | {
            "current": {},
            "definition": query,
            "includeAll": False,
            "query": {"qryType": 3, "query": query, "refId": "PrometheusVariableQueryEditor-VariableQuery"},
            "refresh": 2,
            "regex": f'/{name}="([^"]+)"/',
            "sort": 0,
        },
    )


def _variable_frame(template: gl.Template) -> Json:
    data = panel_json.plain(template)
    return {key: data[key] for key in _VARIABLE_KEYS} | {"type": data["type"], "skipUrlSync": False}
