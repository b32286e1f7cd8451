"""What is printed is printed whole, and nobody reading it holds the lane instead of ending the agent."""

from __future__ import annotations

import os

import pytest

from agent.batch import Logs, labels_of
from agent.contract import Receipt
from agent.errors import Hold, Retry
from agent.export import console
from agent.export.console_options import COMPONENT, ConsoleOptions
from agent.worker import Worker
from tests.fakes import context

BATCH = Logs("file", labels_of({"job": "app"}), b"one\ntwo\n", 2, first_time_ns=1_700_000_000 * 10**9)


async def test_records_are_printed_to_standard_output(tmp_path, capfd):
    async with COMPONENT.open(ConsoleOptions(), context(tmp_path, "console")) as destination:
        assert await destination.send([BATCH]) == Receipt()
    assert capfd.readouterr().out == (
        '2023-11-14T22:13:20.000000000Z file {job="app"} one\n2023-11-14T22:13:20.000000001Z file {job="app"} two\n'
    )


async def test_a_reader_that_went_away_holds(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with Worker("print") as worker, pytest.raises(Hold, match="reader gone"):
            await console.Console(writing, worker).send([BATCH])
    finally:
        os.close(writing)


async def test_a_full_pipe_that_does_not_wait_is_tried_again():
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    many = Logs("file", labels_of({"job": "app"}), b"x\n" * 100_000, 100_000, first_time_ns=1)
    try:
        with Worker("print") as worker, pytest.raises(Retry):
            await console.Console(writing, worker).send([many])
    finally:
        os.close(reading)
        os.close(writing)


async def test_without_standard_output_it_holds(monkeypatch):
    monkeypatch.setattr("sys.__stdout__", None)
    with Worker("print") as worker, pytest.raises(Hold, match="standard output is closed"):
        await console.Console(console._standard_output(), worker).send([BATCH])
