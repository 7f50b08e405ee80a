"""What hosts store of a decision: units, direction, and the way through JSON."""

import json

import pytest

from metahpo.suggest.decision import Decision, Part, Source
from metahpo.suggest.decision_record import DecisionRecord, record_of

DECISION = Decision(
    configurations=({"x": 1}, {"x": 2}),
    source=Source.ACQUISITION,
    reason="It promises most.",
    past_tasks=(("mnist", 0.75), ("svhn", -0.25)),
    trust=0.5,
    mean=2.0,
    deviation=0.5,
    hopeless={"x": Part(((0.0, 1.0), (3.0, 4.0))), "c": Part(choices=("sgd", None))},
)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_prediction_is_in_the_direction_of_the_host(sign):
    record = record_of(DECISION, sign)
    assert (record.mean, record.deviation) == (sign * 2.0, 0.5)


def test_all_but_the_prediction_is_as_decided():
    record = record_of(DECISION, -1.0)
    for name in ("source", "reason", "past_tasks", "trust", "hopeless"):
        assert getattr(record, name) == getattr(DECISION, name)


def test_a_later_configuration_of_a_batch_has_no_prediction():
    record = record_of(DECISION, 1.0, position=1)
    assert (record.mean, record.deviation) == (None, None)


def test_a_record_survives_the_way_through_json():
    record = record_of(DECISION, -1.0)
    assert DecisionRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize("other", [{}, {"source": "portfolio"}, {"source": "unheard of"}])
def test_other_json_is_an_error(other):
    with pytest.raises(ValueError):  # noqa: PT011 - two kinds of message
        DecisionRecord.from_json(other)
