"""The chart and the files of `deploy/`, without a cluster."""

from pathlib import Path

import pytest
import yaml
from helm_python import Chart

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "quarry"
VALUE_SETS = sorted((CHART / "ci").glob("*.yaml"))


def values_of(path):
    return yaml.safe_load(path.read_text()) or {}


def rendered(values, **options):
    """The chart's objects, in the order of its files."""
    with Chart.load(CHART) as chart:
        files = chart.render(values=values, name="q", namespace="data", revision=1, **options)
    objects = []
    for path, text in sorted(files.items()):
        if path.endswith("NOTES.txt"):
            continue
        objects += [one for one in yaml.safe_load_all(text) if one]
    return objects


@pytest.fixture(params=VALUE_SETS, ids=lambda path: path.stem)
def value_set(request):
    return values_of(request.param)
