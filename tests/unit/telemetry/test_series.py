"""Series add up as the SDK's instruments do."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from skyflowctl.telemetry.series import CountSeries, SpreadSeries
from skyflowctl.telemetry.start import Metric

SPREAD = Metric("spread", "s", "A distribution.", (0.1, 0.4, 1.0))
COUNT = Metric("count", "{request}", "A count.")
VALUES = st.one_of(st.sampled_from(SPREAD.bounds), st.floats(0, 10))
ROLES = st.sampled_from(["reader", "writer"])


@given(st.lists(st.tuples(VALUES, ROLES), max_size=20))
def test_a_distribution_is_that_of_the_sdk(values: list[tuple[float, str]]):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    bounds = list(SPREAD.bounds)
    theirs = provider.get_meter("a").create_histogram(
        "spread", explicit_bucket_boundaries_advisory=bounds
    )
    ours = SpreadSeries(SPREAD)
    for value, role in values:
        theirs.record(value, {"role": role})
        ours.record(value, {"role": role})
    data = reader.get_metrics_data()
    points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points if data else ()
    expected = {
        tuple(one.attributes.items()): (list(one.bucket_counts), one.sum, one.min, one.max)
        for one in points
    }
    assert {
        key: (one.counts, one.total, one.least, one.most) for key, one in ours.read()
    } == expected


@given(st.lists(st.tuples(st.integers(1, 5), ROLES), max_size=20))
def test_a_counter_has_a_sum_for_each_set_of_attributes(values: list[tuple[int, str]]):
    series, expected = CountSeries(COUNT), Counter[str]()
    for value, role in values:
        series.add(value, {"role": role})
        expected[role] += value
    assert {dict(key)["role"]: value for key, value in series.read()} == expected
