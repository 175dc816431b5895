"""Write the Grafana dashboard: ``python docker/grafana/dashboard.py``."""

import json
from itertools import count
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "dashboards" / "vimserve.json"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT = 24, 8
RATE = "[$__rate_interval]"
OF = '{model=~"$model"}'
OF_BOTH = '{model=~"$model", resolution=~"$resolution"}'

Panel = dict[str, Any]
Query = tuple[str, str]  # PromQL, legend


def quantile(part: float, metric: str, by: str, labels: str) -> str:
    """A quantile of a histogram."""
    return f"histogram_quantile({part}, sum by (le, {by}) (rate({metric}_bucket{labels}{RATE})))"


def mean(metric: str, by: str, labels: str) -> str:
    """The mean of what a histogram observed."""
    total, number = (
        f"sum by ({by}) (rate({metric}_{end}{labels}{RATE}))" for end in ("sum", "count")
    )
    return f"{total} / {number}"


def ratio(metric: str, one: str, other: str) -> str:
    """The mean of one model divided by that of another, for each resolution."""
    upper, lower = (
        mean(metric, "resolution", f'{{model="{model}", resolution=~"$resolution"}}')
        for model in (one, other)
    )
    return f"({upper}) / on (resolution) ({lower})"


def panel(
    title: str, unit: str, *queries: Query, width: int = 8, stacked: bool = False, about: str = ""
) -> Panel:
    """A graph over time."""
    custom: dict[str, Any] = {"fillOpacity": 30 if stacked else 8, "showPoints": "never"}
    if stacked:
        custom["stacking"] = {"mode": "normal"}
    return {
        "type": "timeseries",
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": custom}, "overrides": []},
        "options": {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
            for i, (expr, legend) in enumerate(queries)
        ],
        "gridPos": {"w": width, "h": HEIGHT},
    }


def row(title: str) -> Panel:
    """A heading."""
    return {"type": "row", "title": title, "collapsed": False, "gridPos": {"w": WIDTH, "h": 1}}


REQUEST, PEAK = "vimserve_request_seconds", "vimserve_batch_peak_memory_bytes"
PANELS = [
    row("Vim against DeiT"),
    panel(
        "Times faster than the baseline", "x",
        (ratio(REQUEST, "$deit", "$vim"), "{{resolution}}"),
        about="Mean time of a request to $deit divided by that of one to $vim, queueing included. "
        "The paper has 2.8 at 1248 pixels, in batches on an A100, against eager attention.",
    ),
    panel(
        "Less memory than the baseline", "percentunit",
        (f"1 - {ratio(PEAK, '$vim', '$deit')}", "{{resolution}}"),
        about="By the mean peak of a batch above the weights. The paper has 86.8 % at 1248 pixels.",
    ),
    panel(
        "Peak memory of a batch above the weights", "bytes",
        (mean(PEAK, "model, resolution", OF_BOTH), "{{model}} {{resolution}}"),
        (mean("vimserve_batch_predicted_memory_bytes", "model, resolution", OF_BOTH),
         "{{model}} {{resolution}}, predicted"),
    ),
    row("Requests"),
    panel(
        "Requests", "reqps",
        (f"sum by (model, task, status) (rate(vimserve_requests_total{OF}{RATE}))",
         "{{model}} {{task}} {{status}}"),
    ),
    panel(
        "Latency", "s",
        *((quantile(part, REQUEST, "model, resolution", OF_BOTH),
           f"{{{{model}}}} {{{{resolution}}}} p{round(100 * part)}") for part in (0.5, 0.95, 0.99)),
    ),
    panel(
        "Refused or failed, by reason", "reqps",
        (f"sum by (reason) (rate(vimserve_rejected_total{RATE}))", "{{reason}}"), stacked=True,
    ),
    panel(
        "Where the time of a request goes", "s",
        (mean("vimserve_stage_seconds", "model, stage", OF), "{{model}} {{stage}}"),
        width=12, stacked=True,
    ),
    panel("Requests in progress", "short", ("sum(vimserve_inflight)", "requests"), width=12),
    row("Batches"),
    panel(
        "Tokens in a batch", "short",
        (mean("vimserve_batch_tokens", "model", OF), "{{model}} mean"),
        (quantile(0.95, "vimserve_batch_tokens", "model", OF), "{{model}} p95"),
    ),
    panel("Images in a batch", "short",
          (mean("vimserve_batch_images", "model", OF), "{{model}} mean")),
    panel("Tokens per second", "short",
          (f"sum by (model) (rate(vimserve_tokens_total{OF}{RATE}))", "{{model}}"), stacked=True),
    panel(
        "Waiting", "short",
        (f"sum by (model) (vimserve_queue_depth{OF})", "{{model}} images"),
        (f"sum by (model) (vimserve_queue_tokens{OF})", "{{model}} tokens"),
    ),
    panel(
        "Device", "percentunit",
        (f"sum by (device) (rate(vimserve_device_busy_seconds_total{RATE}))", "{{device}} busy"),
    ),
    panel(
        "Batches run again in parts", "short",
        (f"sum by (model, reason) (increase(vimserve_batch_retries_total{OF}{RATE}))",
         "{{model}} {{reason}}"),
    ),
    row("Memory and models"),
    panel(
        "GPU memory", "bytes",
        ("sum by (device, kind) (vimserve_gpu_memory_bytes)", "{{device}} {{kind}}"), width=12,
        about="allocated: what tensors hold; reserved: what PyTorch keeps for them; used: what all "
        "processes take; total: what there is. Empty on a CPU.",
    ),
    panel(
        "Models that are ready", "short",
        ("sum by (model, family, attention, dtype, device) (vimserve_model_info)",
         "{{model}}: {{family}}, attention {{attention}}, {{dtype}} on {{device}}"), width=12,
    ),
    row("Cluster"),
    panel(
        "Queued work of each replica", "s",
        ("max by (group, replica) (vimserve_cluster_queue_seconds)", "{{group}} {{replica}}"),
        about="Empty for a single server, as is the rest of the row.",
    ),
    panel(
        "Requests routed, to the first choice or to a next one", "reqps",
        (f"sum by (replica, choice) (rate(vimserve_cluster_routed_total{RATE}))",
         "{{replica}} {{choice}}"),
    ),
    panel(
        "From a request's head to its replicas' rank", "s",
        *((f"histogram_quantile({part}, sum by (le) "
           f"(rate(vimserve_cluster_decision_seconds_bucket{RATE})))", f"p{round(100 * part)}")
          for part in (0.5, 0.99)),
    ),
    panel(
        "Replicas", "short",
        ('sum by (group) (max by (group, state) (vimserve_cluster_replicas{state!="stopping"}))',
         "{{group}} asked for"),
        ("count by (group) (max by (group, replica) (vimserve_cluster_queue_seconds))",
         "{{group}} there"),
        about="A replica is there once it has said how it is.",
    ),
    panel(
        "Replicas that come and go", "short",
        (f"max by (group, change) (increase(vimserve_cluster_replica_changes_total{RATE}))",
         "{{group}} {{change}}"),
        about="Scaling and updates: joined, draining, left. Troubles: lost, silent.",
    ),
    panel(
        "Refused or failed by the router itself, by reason", "reqps",
        (f"sum by (reason) (rate(vimserve_cluster_rejected_total{RATE}))", "{{reason}}"),
        stacked=True,
    ),
]  # fmt: skip


def variable(name: str, query: str, *, several: bool, first: str = "") -> dict[str, Any]:
    """A menu at the top of the page."""
    every = {"text": "All", "value": "$__all"}
    return {
        "name": name,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": several,
        "includeAll": several,
        "current": every if several else {"text": first, "value": first},
        "sort": 1,
    }


def laid_out(panels: list[Panel]) -> list[Panel]:
    """The panels with ids and grid positions, from left to right, row by row."""
    numbers, x, y, tallest = count(1), 0, 0, 0
    placed = []
    for one in panels:
        size = one["gridPos"]
        if x + size["w"] > WIDTH:
            x, y, tallest = 0, y + tallest, 0
        placed.append(one | {"id": next(numbers), "gridPos": size | {"x": x, "y": y}})
        x, tallest = x + size["w"], max(tallest, size["h"])
    return placed


def dashboard() -> dict[str, Any]:
    """The dashboard in Grafana's JSON model."""
    info = "label_values(vimserve_model_info{%s}, model)"
    return {
        "uid": "vimserve",
        "title": "vimserve",
        "tags": ["vimserve"],
        "schemaVersion": 41,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {
            "list": [
                variable("model", "label_values(vimserve_model_info, model)", several=True),
                variable("resolution", f"label_values({REQUEST}_count, resolution)", several=True),
                variable("vim", info % 'family=~"vim.*"', several=False, first="vim-tiny"),
                variable("deit", info % 'family=~"deit.*"', several=False, first="deit-tiny"),
            ]
        },
        "panels": laid_out(PANELS),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(dashboard(), indent=1) + "\n")
