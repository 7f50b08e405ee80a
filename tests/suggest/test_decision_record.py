"""What hosts store of a decision: units, direction, and the way through JSON."""

import json

import pytest

from metahpo.suggest.decision import Decision, Part, Source
from metahpo.suggest.decision_record import DecisionRecord, record_of
from metahpo.suggest.decision_text import describe

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
    with pytest.raises(ValueError, match="not a recorded decision"):
        DecisionRecord.from_json(other)


def parts_of(value, path=()):
    """The path to everything within what JSON holds."""
    yield path
    items = enumerate(value) if isinstance(value, list) else []
    for key, part in value.items() if isinstance(value, dict) else items:
        yield from parts_of(part, (*path, key))


@pytest.mark.parametrize(
    "other", [None, 5, "text", [], {}, [[]], [1], {"a": 1}, 10**400], ids=repr
)
def test_a_damaged_record_is_an_error_or_can_be_described(other):
    """Whatever one part of it is replaced by."""
    whole = json.dumps(record_of(DECISION, 1.0).to_json())
    for *path, last in filter(None, parts_of(json.loads(whole))):
        damaged = json.loads(whole)
        within = damaged
        for key in path:
            within = within[key]
        within[last] = other
        try:
            record = DecisionRecord.from_json(damaged)
        except ValueError:
            continue
        assert describe(record)


@pytest.mark.parametrize("other", [None, 5, "text", []])
def test_what_is_no_mapping_is_no_record(other):
    with pytest.raises(ValueError, match="not a recorded decision"):
        DecisionRecord.from_json(other)
