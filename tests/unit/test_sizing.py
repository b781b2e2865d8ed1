"""What `make steps` concludes from its steps, computed by hand."""

from __future__ import annotations

import json

import pytest
import yaml

from demo import ROOT
from demo.sizing import Advice, Step, advise, one_replica_each, read_steps, report
from servescope.errors import ServescopeError


def steps(*measured: tuple[int, float]) -> list[Step]:
    return [
        Step(concurrency=concurrency, throughput=throughput, p50_ms=100, p95_ms=200)
        for concurrency, throughput in measured
    ]


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        pytest.param(
            [(1, 10), (2, 19), (4, 36), (8, 38), (16, 37)],
            Advice(bend=4, max_ongoing_requests=4, target_ongoing_requests=2, reached=True),
            id="a bend at four",
        ),
        pytest.param(
            [(1, 10), (2, 10.5), (4, 10.4)],
            Advice(bend=1, max_ongoing_requests=2, target_ongoing_requests=1, reached=True),
            id="one request fills it",
        ),
        pytest.param(
            [(1, 10), (2, 20), (4, 40)],
            Advice(bend=4, max_ongoing_requests=4, target_ongoing_requests=2, reached=False),
            id="no bend yet",
        ),
        # 10.8, 11.6, 12.5: each step brings 8 %, but the third 16 % over the first.
        pytest.param(
            [(1, 10), (2, 10.8), (3, 11.6), (4, 12.5)],
            Advice(bend=3, max_ongoing_requests=3, target_ongoing_requests=1, reached=True),
            id="many small gains",
        ),
        pytest.param(
            [(1, 10), (2, 20), (3, 18), (4, 30), (6, 31)],
            Advice(bend=4, max_ongoing_requests=4, target_ongoing_requests=2, reached=True),
            id="a dip on the way",
        ),
        pytest.param(
            [(1, 10), (2, 11), (4, 11)],
            Advice(bend=2, max_ongoing_requests=2, target_ongoing_requests=1, reached=True),
            id="exactly a tenth more",
        ),
        pytest.param(
            [(1, 10)],
            Advice(bend=1, max_ongoing_requests=2, target_ongoing_requests=1, reached=False),
            id="one step gives no advice",
        ),
    ],
)
def test_the_bend_is_the_first_step_that_no_later_one_beats_by_a_tenth(measured, expected):
    assert advise(steps(*measured)) == expected


def test_the_report_is_the_table_and_the_limits():
    text = report(
        [
            Step(concurrency=1, throughput=10, p50_ms=98, p95_ms=120),
            Step(concurrency=2, throughput=18.26, p50_ms=104.4, p95_ms=150),
            Step(concurrency=4, throughput=18.5, p50_ms=210, p95_ms=300),
        ]
    )
    assert text.splitlines() == [
        "in flight requests/s   p50 ms   p95 ms",
        "        1       10.0       98      120",
        "        2       18.3      104      150",
        "        4       18.5      210      300",
        "Latency rises beyond 2 in flight: max_ongoing_requests 2, target_ongoing_requests 1",
    ]


def test_the_report_says_when_the_steps_did_not_reach_the_bend():
    assert "the knee is beyond" in report(steps((1, 10), (2, 20)))


def test_one_replica_of_each_deployment_and_no_limit_in_the_way():
    document = one_replica_each(yaml.safe_load((ROOT / "demo/serve_config.yaml").read_text()))
    deployments = {d["name"]: d for a in document["applications"] for d in a["deployments"]}
    assert {"Ingress", "Detector", "Recogniser"} <= set(deployments)
    for deployment in deployments.values():
        assert "autoscaling_config" not in deployment
        assert deployment["num_replicas"] == 1
        assert deployment["max_ongoing_requests"] == 1000
        assert deployment["max_queued_requests"] == -1


def test_failed_requests_make_the_figures_worthless(tmp_path):
    path = tmp_path / "steps.json"
    step = {"concurrency": 4, "throughput": 3.0, "p50_ms": 1, "p95_ms": 2, "failed": 0}
    path.write_text(json.dumps([step]))
    assert read_steps(path) == [Step(concurrency=4, throughput=3.0, p50_ms=1, p95_ms=2)]
    path.write_text(json.dumps([step, step | {"concurrency": 8, "failed": 2}]))
    with pytest.raises(ServescopeError, match=r"requests failed \(2 with 8 in flight\)"):
        read_steps(path)
