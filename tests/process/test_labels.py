"""This file holds what [process.labels] does to the labels of a batch."""

from __future__ import annotations

from array import array
from pathlib import Path

import pytest

from agent.batch import Labels, Logs, Metrics
from agent.clock import Time
from agent.process.labels import MOST_REMEMBERED, Labeller
from agent.process.labels_options import COMPONENT, LabelsOptions
from tests.fakes import context

NOW = Time(0, 0.0)


def logs(*labels: tuple[str, str]) -> Logs:
    return Logs(source="file", labels=labels, block=b"a\n", count=1)


def changed(options: LabelsOptions, *labels: tuple[str, str]) -> Labels:
    (batch,) = Labeller(options).process(logs(*labels), NOW)
    return batch.labels


def test_labels_are_set_removed_and_renamed_and_stay_sorted() -> None:
    options = LabelsOptions(set={"env": "prod"}, remove=("pid",), rename={"filename": "path"})
    assert changed(options, ("filename", "/a"), ("pid", "1"), ("unit", "x")) == (
        ("env", "prod"),
        ("path", "/a"),
        ("unit", "x"),
    )


def test_a_set_value_takes_the_place_of_another_and_an_empty_one_removes_it() -> None:
    assert changed(LabelsOptions(set={"env": "prod", "unit": ""}), ("env", "dev"), ("unit", "x")) == (("env", "prod"),)


def test_two_labels_can_change_names_with_each_other() -> None:
    assert changed(LabelsOptions(rename={"a": "b", "b": "a"}), ("a", "1"), ("b", "2")) == (("a", "2"), ("b", "1"))


def test_a_renamed_label_takes_the_place_of_one_that_has_the_name() -> None:
    assert changed(LabelsOptions(rename={"b": "a"}), ("a", "1"), ("b", "2")) == (("a", "2"),)


def test_a_batch_that_need_not_change_is_the_same_object() -> None:
    batch = logs(("env", "prod"))
    assert next(iter(Labeller(LabelsOptions(set={"env": "prod"}, remove=("x",))).process(batch, NOW))) is batch


def test_metrics_get_their_labels_too() -> None:
    batch = Metrics(source="host", labels=(), series=(b"up",), values=array("d", [1.0]))
    (out,) = Labeller(LabelsOptions(set={"env": "prod"})).process(batch, NOW)
    assert out.labels == (("env", "prod"),)
    assert out.series == batch.series


def test_label_sets_are_remembered_up_to_a_bound() -> None:
    labeller = Labeller(LabelsOptions(set={"a": "1"}))
    for number in range(MOST_REMEMBERED + 10):
        (out,) = labeller.process(logs(("n", str(number + 1))), NOW)
        assert out.labels == (("a", "1"), ("n", str(number + 1)))
    assert len(labeller._known) <= MOST_REMEMBERED


@pytest.mark.parametrize("name", ["a-b", "1a", "", "a b", "ä"])
def test_a_name_that_no_backend_takes_is_a_fault(name: str) -> None:
    options = LabelsOptions(set={name: "x"}, remove=(name,), rename={name: "ok", "ok": name})
    assert [key for key, _ in options.faults()] == [f"set.{name}", "remove[0]", f"rename.{name}", "rename.ok"]
    assert list(LabelsOptions(set={"_a1": "x"}).faults()) == []


async def test_it_opens_and_closes_and_holds_nothing(tmp_path: Path) -> None:
    async with COMPONENT.open(LabelsOptions(), context(tmp_path)) as labeller:
        assert labeller.held() is None
        assert list(labeller.due(NOW)) == []
