"""What the firmware says the machine is, out of /sys/class/dmi/id."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.collect.host.dmi import Dmi
from agent.errors import NoData
from tests.collect.host.machines import machine, samples


def test_it_is_read_once(tmp_path: Path) -> None:
    folder = tmp_path / "sys" / "class" / "dmi" / "id"
    folder.mkdir(parents=True)
    (folder / "sys_vendor").write_text("LENOVO\n")
    dmi = Dmi(machine(tmp_path))
    first = samples(dmi.collect())
    (folder / "sys_vendor").unlink()
    assert samples(dmi.collect()) == first == {'node_dmi_info{system_vendor="LENOVO"}': 1}


def test_a_table_that_says_nothing_is_no_data(tmp_path: Path) -> None:
    (tmp_path / "sys" / "class" / "dmi" / "id").mkdir(parents=True)
    with pytest.raises(NoData, match="says nothing"):
        Dmi(machine(tmp_path)).collect()
