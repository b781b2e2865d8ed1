"""Mistakes in how Ray's metrics are collected and stored, each as one object: what finds it, why it matters, the cure.

A check is a PromQL expression with one series for each finding, so that a rule, and whoever else asks a Prometheus,
finds the same. `rules.alerts.setup` makes an alert of each; docs/set-ups.md has the whole story for each kind of store.
"""

from __future__ import annotations

from dataclasses import dataclass

from servescope import __version__
from servescope.promql import Labels
from servescope.promql.signals import NODE_CPU, REQUESTS
from servescope.rules import series
from servescope.rules.alert import Case
from servescope.rules.expressions import Expressions

# The label of rules groups in Prometheus' own metrics is FILE;GROUP.
_OUR_GROUP = ".*;(servescope[.].*)"
_SCRAPES = 20  # over so many scrapes the interval is measured


@dataclass(frozen=True, kw_only=True)
class SetupCheck:
    """One mistake.

    `expr` gives one series for each finding, with `labels` besides the cluster label; `clustered` is False where it has
    none. `finding` says what is wrong, `cause` how it comes about, `effect` what it does to figures and alerts.
    `snippet` is the text to paste, in `language`, `page` the heading of docs/set-ups.md about it. `question` and
    `query` look closer. `case` is that of its alert.
    """

    name: str
    severity: str
    expr: str
    finding: str
    description: str
    cause: str
    effect: str
    cure: str
    snippet: str
    page: str
    question: str
    query: str
    case: Case
    language: str = "yaml"
    labels: Labels = ()
    needs: str = ""

    @property
    def alert(self) -> str:
        """The name of its alert."""
        return f"ServescopeSetup{self.name}"


def checks(exprs: Expressions) -> tuple[SetupCheck, ...]:
    """Every check, the worst consequences first."""
    return (
        up_missing(exprs),
        cluster_label_missing(exprs),
        labels_exported(exprs),
        node_scraped_twice(exprs),
        replicas_not_deduplicated(exprs),
        latency_buckets_missing(exprs),
        scrape_interval_long(exprs),
        recording_rules_incomplete(exprs),
        rules_loaded_twice(exprs),
        exporter_version(exprs),
    )


def up_missing(exprs: Expressions) -> SetupCheck:
    nodes = exprs.total("group", exprs.now("ray_node_cpu_utilization"), "instance")
    up = exprs.total("group", f"last_over_time({exprs.scope.up()}[{exprs.hold}])", "instance")
    return SetupCheck(
        name="UpMissing",
        severity="warning",
        expr=f"count by ({exprs.settings.cluster_label}) ({nodes}\nunless {up})",
        finding="Ray's metrics are stored without `up`.",
        description="{{ $value }} nodes report metrics and have no `up` with the same cluster label and instance.",
        cause=(
            "Federation or remote write passes on `ray_.*` only; or the cluster label is added to samples "
            "(metric_relabel_configs), which `up` does not go through, instead of to targets (relabel_configs); or the "
            "scrape job has a name that the setting scrape_jobs does not match."
        ),
        effect=(
            "The first event of each series is not counted: a new route that fails, a replica's first crash, the first "
            "failed health check. Alerts on them stay silent."
        ),
        cure="Store `up`, with the cluster label, and match the job's name in scrape_jobs.",
        snippet="""\
# Federation: ask for `up` as well.
params:
  "match[]": ['{__name__=~"(ray|autoscaler|servescope)_.+|up"}']

# Remote write with an allow-list: keep `up`.
write_relabel_configs:
  - {source_labels: [__name__], regex: "(ray|autoscaler|servescope)_.+|up", action: keep}

# settings.yaml, for `servescope rules` and `servescope dashboards`: the names of your scrape jobs
scrape_jobs: "(ray|my-job)"
""",
        page="up",
        question="Which targets have it?",
        query="up",
        case=Case(at="30m", fires={series.TARGET_UP: "_x"}, quiet={series.TARGET_UP: "1x"}),
    )


def cluster_label_missing(exprs: Expressions) -> SetupCheck:
    label = exprs.settings.cluster_label

    def seen(matcher: str) -> str:
        names = ("ray_node_cpu_utilization", "ray_serve_controller_num_control_loops", "servescope_exporter_up")
        return " or ".join(f"last_over_time({name}{{{label}{matcher}}}[{exprs.hold}])" for name in names)

    unlabelled, labelled = seen('=""'), seen('!=""')
    unnamed = {
        series.series(name, instance="n2", **{label: ""}, **labels): "1x"
        for name, labels in (("ray_node_cpu_utilization", {"ip": "10.0.0.2"}), ("up", {}))
    }
    return SetupCheck(
        name="ClusterLabelMissing",
        severity="warning",
        expr=f"count by (job) ({unlabelled})\nand on () group({labelled})",
        labels=("job",),
        finding="Some targets lack the cluster label.",
        description=(
            f"Of job {{{{ $labels.job }}}}, {{{{ $value }}}} targets have no label {label}, while others have one."
        ),
        cause=(
            "The label was added to one scrape job and not to the others: that of the exporter, of the dashboard's and "
            "the autoscaler's ports, of a second cluster."
        ),
        effect=(
            "Nothing joins the two halves: no limits beside the figures, no deploys, and a cluster without a name that "
            "appears beside the others."
        ),
        cure=f"Give every target of one cluster the same {label}.",
        snippet=f"""\
# In each scrape job of the cluster. A target label: metric_relabel_configs would leave `up` without it.
relabel_configs:
  - {{target_label: {label}, replacement: my-cluster}}
""",
        page="the-cluster-label",
        question="Which targets have which cluster?",
        query=f"count by ({label}, job, instance) (up)",
        case=Case(at="30m", fires=unnamed, quiet=dict.fromkeys(unnamed, "_x"), labels={"job": "ray"}, cluster=""),
    )


def labels_exported(exprs: Expressions) -> SetupCheck:
    requests = exprs.scope.rate("ray_serve_num_http_requests_total", exprs.hold, exported_application='!=""')
    states = (
        exprs.now(f"ray_serve_{what}_status", **{f"exported_{what}": '!=""'}) for what in ("application", "deployment")
    )
    hidden = series.series("ray_serve_application_status", application="ray-prod", exported_application="checkout")
    return SetupCheck(
        name="LabelsExported",
        severity="warning",
        expr=exprs.total("count", " or ".join((requests, *states))),
        finding="A target label has replaced Ray's application or deployment.",
        description="{{ $value }} series of Ray carry exported_application or exported_deployment.",
        cause=(
            "The scrape adds a target label `application` or `deployment`, from a pod's label for example "
            "(labelmap, podTargetLabels), and Prometheus renames Ray's own label to `exported_...`."
        ),
        effect="All applications are one: failures of one drown in the traffic of the others, and no alert names it.",
        cure="Let Ray's labels win, or add no target label of that name.",
        snippet="""\
# Prometheus: in the scrape job of Ray.
honor_labels: true

# Prometheus Operator: in the endpoint of the PodMonitor or ServiceMonitor.
podMetricsEndpoints:
  - {port: metrics, honorLabels: true}
""",
        page="labels-that-collide",
        question="Which labels do the targets add?",
        query="group by (job, instance) (up)",
        case=Case(at="30m", fires={hidden: "6x"}, quiet={hidden: "_x"}),
    )


def node_scraped_twice(exprs: Expressions) -> SetupCheck:
    # A head and a worker may share a machine.
    node = ("ip", "IsHeadNode")
    targets = exprs.total("group", exprs.now("ray_node_cpu_utilization"), *node, "instance", "job")
    again = {
        series.series(
            "ray_node_cpu_utilization", ip="10.0.0.1", IsHeadNode="true", RayNodeType="head", job="pods"
        ): "10x",
        series.series("up", instance="n1", job="pods"): "1x",
    }
    return SetupCheck(
        name="NodeScrapedTwice",
        severity="warning",
        expr=exprs.total("max", f"{exprs.total('count', targets, *node)} > 1", "ip"),
        labels=("ip",),
        finding="A node is scraped more than once.",
        description="The metrics of node {{ $labels.ip }} are stored {{ $value }} times (jobs, instances).",
        cause="Two scrape jobs find the same port: Ray's service discovery file and a PodMonitor or an annotation.",
        effect="Sums count twice: traffic, errors, replicas. Missing replicas do not show.",
        cure="Keep one job for each of Ray's ports.",
        snippet="""\
# In the other job: leave out the pods that Ray's own job scrapes.
relabel_configs:
  - {source_labels: [__meta_kubernetes_pod_label_ray_io_cluster], regex: .+, action: drop}
""",
        page="one-job-for-each-port",
        question="By which jobs, under which instances?",
        query="group by (ip, job, instance) (ray_node_cpu_utilization)",
        case=Case(at="30m", fires=again, quiet=dict.fromkeys(again, "_x"), labels={"ip": "10.0.0.1"}),
    )


def replicas_not_deduplicated(exprs: Expressions) -> SetupCheck:
    copies = f"{exprs.total('count', exprs.now('ray_node_cpu_utilization'), 'ip', 'instance', 'job')} > 1"
    copy = series.series(
        "ray_node_cpu_utilization", ip="10.0.0.1", IsHeadNode="true", RayNodeType="head", prometheus_replica="b"
    )
    return SetupCheck(
        name="ReplicasNotDeduplicated",
        severity="warning",
        expr=exprs.total("count", copies),
        finding="Replicas of Prometheus are not deduplicated.",
        description="{{ $value }} nodes are stored more than once from the same target.",
        cause="A pair of Prometheus servers writes to one store, which does not know the label by which they differ.",
        effect="Sums count twice: traffic, errors, replicas. Missing replicas do not show.",
        cure="Name the replica label to the store.",
        snippet=f"""\
# Thanos
thanos query --query.replica-label=prometheus_replica ...

# VictoriaMetrics: the same external_labels on both servers, and
victoria-metrics -dedup.minScrapeInterval={exprs.settings.scrape_interval_s}s ...

# Mimir and Cortex: external_labels `cluster` (of the pair) and `__replica__` on each server, and
mimir -distributor.ha-tracker.enable-for-all-users=true ...
""",
        language="bash",
        page="pairs-of-prometheus-servers",
        question="By which label do the copies differ?",
        query="ray_node_cpu_utilization",
        case=Case(at="30m", fires={copy: "10x"}, quiet={copy: "_x"}),
    )


def latency_buckets_missing(exprs: Expressions) -> SetupCheck:
    counted = exprs.scope.rate("ray_serve_num_http_requests_total", "10m", application='!=""')
    # Every histogram has this one.
    buckets = exprs.now("ray_serve_http_request_latency_ms_bucket", application='!=""', le='="+Inf"')
    return SetupCheck(
        name="LatencyBucketsMissing",
        severity="warning",
        expr=f"{exprs.total('sum', counted)} > 0\nunless {exprs.total('group', buckets)}",
        finding="Requests are counted, and their latency buckets are not there.",
        description="Serve answers {{ $value | humanize }} requests per second, and no latency bucket is stored.",
        cause=(
            "Prometheus 3 stores Ray's histograms as native ones (convert_classic_histograms_to_nhcb), whose series "
            "have no `_bucket` in their names; or a relabelling drops `.*_bucket`."
        ),
        effect=(
            "Every panel and alert on latency, start times and event loops is silent, latency objectives too, and so "
            "is RayServeLatencyBoundMissing."
        ),
        cure="Store the classic buckets too.",
        snippet="""\
# Prometheus 3, in the scrape job of Ray, wherever native histograms are on.
always_scrape_classic_histograms: true
""",
        page="native-histograms",
        question="Is it stored as a native histogram? Then this answers:",
        query="rate(ray_serve_http_request_latency_ms[5m])",
        case=Case(
            at="40m",
            fires={series.http_requests("200"): "0+15x"},
            quiet={
                series.http_latency_bucket(exprs.settings.latency_ms): "0+15x",
                series.http_latency_bucket("+Inf"): "0+15x",
            },
        ),
    )


def scrape_interval_long(exprs: Expressions) -> SetupCheck:
    seconds = exprs.settings.scrape_interval_s
    window = f"{_SCRAPES * seconds}s" if _SCRAPES * seconds % 60 else f"{_SCRAPES * seconds // 60}m"
    by = ", ".join(exprs.by("instance"))
    node = exprs.total("group", exprs.now("ray_node_cpu_utilization"), "instance")
    often = f"count_over_time(up[{window}]) and on ({by}) {node}"
    seldom = " ".join(["1 _ _"] * 60)
    return SetupCheck(
        name="ScrapeIntervalLong",
        severity="warning",
        # The target that is scraped most often: a young one has not had time for more.
        expr=f"{exprs.total('max', often)} < {_SCRAPES * 3 // 4}",
        finding="Ray is scraped less often than the settings say.",
        description=(
            f"The nodes were scraped {{{{ $value }}}} times in {window}; with scrape_interval_s {seconds} it would be "
            f"{_SCRAPES} times."
        ),
        cause="The scrape interval of Ray's job is longer than the setting `scrape_interval_s` that made the rules.",
        effect="Windows of four scrapes hold one sample or none: rates have gaps, and alerts that wait start again.",
        cure="Scrape as often as the settings say, or generate the rules and dashboards for your interval.",
        snippet=f"""\
# prometheus.yml
scrape_interval: {seconds}s

# or settings.yaml, for `servescope rules` and `servescope dashboards`
scrape_interval_s: 30
""",
        page="the-scrape-interval",
        question="How often was each target scraped?",
        query=f"count_over_time(up[{window}])",
        case=Case(at="30m", fires={series.TARGET_UP: seldom}, quiet={series.TARGET_UP: "1x"}),
    )


def recording_rules_incomplete(exprs: Expressions) -> SetupCheck:
    settings = exprs.settings
    some, all_ = NODE_CPU.name(settings), REQUESTS.name(settings)
    counted = exprs.scope.rate("ray_serve_num_http_requests_total", exprs.hold)
    labels = {"application": "main", "route": "/", "method": "GET", "status_code": "200"}

    def recorded(name: str) -> str:
        return exprs.total("group", f"last_over_time({name}[5m])")

    return SetupCheck(
        name="RecordingRulesIncomplete",
        severity="info",
        expr=(f"{recorded(some)}\nand {exprs.total('group', counted)}\nunless {recorded(all_)}"),
        finding="Some recorded series are there and others are missing.",
        description=f"{some} is recorded and {all_} is not.",
        cause=(
            "Part of servescope-recording.yml is loaded, or it was generated with another scrape_interval_s than the "
            "alerts: the window of a rate is part of its name."
        ),
        effect="Panels of the dashboards in dashboards/recorded are empty.",
        cure="Load the whole servescope-recording.yml, made with the same settings as the alerts and the dashboards.",
        snippet="""\
# prometheus.yml
rule_files: [servescope-recording.yml, servescope-alerts.yml, servescope-slo.yml]
""",
        page="the-rules",
        question="Which clusters have the recorded requests?",
        query=f"group by ({settings.cluster_label}) ({all_})",
        case=Case(
            at="30m",
            fires={
                series.series(some, instance="n1"): "0.1x",
                series.http_requests("200"): "0+15x",
                series.http_latency_bucket(settings.latency_ms): "0+15x",
                series.http_latency_bucket("+Inf"): "0+15x",
            },
            quiet={series.series(all_, **labels): "1x"},
        ),
    )


def rules_loaded_twice(exprs: Expressions) -> SetupCheck:
    loaded = f'last_over_time(prometheus_rule_group_rules{{rule_group=~"{_OUR_GROUP}"}}[{exprs.hold}])'
    named = f'label_replace({loaded}, "group", "$1", "rule_group", "{_OUR_GROUP}")'
    files = {
        name: series.series(
            "prometheus_rule_group_rules",
            rule_group=f"/etc/prometheus/{name}/servescope-alerts.yml;servescope.users",
            instance="p",
            job="prometheus",
        )
        for name in ("rules", "more")
    }
    return SetupCheck(
        name="RulesLoadedTwice",
        severity="warning",
        expr=f"count by (job, instance) (count by (job, instance, group) ({named}) > 1)",
        labels=("job", "instance"),
        finding="A Prometheus has loaded our rules twice.",
        description="{{ $labels.instance }} evaluates {{ $value }} groups of servescope's rules more than once.",
        cause="The same files are matched twice by rule_files, or also came as a PrometheusRule.",
        effect="Twice the work, samples that Prometheus refuses as duplicates, and two versions that disagree.",
        cure="Keep one copy.",
        snippet="""\
# prometheus.yml: one pattern that finds each file once
rule_files: [/etc/prometheus/rules/servescope-*.yml]
""",
        page="the-rules",
        question="From which files?",
        query='prometheus_rule_group_rules{rule_group=~".*;servescope[.].*"}',
        case=Case(
            at="30m",
            fires={files["rules"]: "9x", files["more"]: "9x"},
            quiet={files["more"]: "_x"},
            labels={"job": "prometheus", "instance": "p"},
            cluster="",
        ),
        needs="a Prometheus that scrapes itself",
    )


def exporter_version(exprs: Expressions) -> SetupCheck:
    other = exprs.total("group", exprs.now("servescope_exporter_build_info", version=f'!="{__version__}"'), "version")
    running, told = (exprs.total("group", exprs.now(f"servescope_exporter_{what}")) for what in ("up", "build_info"))
    silent = f'label_replace({running} unless {told}, "version", "unknown", "", "")'
    build_info = series.series("servescope_exporter_build_info", version=__version__)
    return SetupCheck(
        name="ExporterVersion",
        severity="info",
        expr=f"{other}\nor {silent}",
        labels=("version",),
        finding="The exporter and the rules are of different versions.",
        description=f"The exporter is of version {{{{ $labels.version }}}}, the rules of {__version__}.",
        cause="One of the two was upgraded and the other was not.",
        effect="A metric that the rules read may be missing or mean something else; those alerts are silent.",
        cure="Upgrade both to the same version.",
        snippet=f"""\
pip install "servescope[exporter]=={__version__}"
""",
        language="bash",
        page="versions",
        question="Which version runs?",
        query="servescope_exporter_build_info",
        case=Case(
            at="30m",
            fires={"servescope_exporter_up": "1x"},
            quiet={build_info: "1x"},
            labels={"version": "unknown"},
        ),
        needs="the state exporter",
    )
