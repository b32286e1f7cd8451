"""Secrets that an administrator lays into systemd's credential stores: found by their names, handed over, rotated.

As root on Debian, with mmdebstrap; elsewhere these tests skip and say what is missing. systemd 254 and newer look into
/etc/credstore and /etc/credstore.encrypted for what a unit imports; on older ones install.sh must not place that line.
"""

from __future__ import annotations

import re

import pytest

from tests.systemd.packaged import CONFIG, UNIT, Installed

pytestmark = [pytest.mark.slow, pytest.mark.root]

DROP_INS = f"/etc/systemd/system/{UNIT}.d"
IMPORTS, REFRESHES = 254, 260
"""The first systemd that imports credentials, and the first whose reload takes them over anew."""
PLAIN, ENCRYPTED = "/etc/credstore/telemetry-agent.metrics", "/etc/credstore.encrypted/telemetry-agent.logs"
SHIPPING = """
[collect.host]
interval_seconds = 1
[collect.journal]
[serve]
listen = "127.0.0.1:9465"
[export.remote_write]
url = "http://127.0.0.1:9091/metrics"
token_file = "%d/telemetry-agent.metrics"
[export.loki]
url = "http://127.0.0.1:9091"
token_file = "%d/telemetry-agent.logs"
"""
RECEIVER = """
import http.server, pathlib
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        what = "metrics" if self.path == "/metrics" else "logs"
        right = self.headers["Authorization"] == "Bearer " + pathlib.Path("/root/right", what).read_text()
        with open("/root/asked", "a") as asked:
            asked.write(f"{what} {self.headers['Authorization']} {204 if right else 401}\\n")
        self.send_response(204 if right else 401)
        self.end_headers()
    log_message = print
http.server.ThreadingHTTPServer(("127.0.0.1", 9091), Receiver).serve_forever()
"""


def systemd(agent: Installed) -> int:
    return int(agent.machine.run("systemctl", "--version").split()[1])


@pytest.fixture
def stored(installed: Installed) -> Installed:
    """Both secrets in their stores, one encrypted, and a receiver that wants them; not configured yet."""
    if systemd(installed) < IMPORTS:
        pytest.skip(f"systemd {systemd(installed)} imports no credentials: TELEMETRY_AGENT_TESTS_RELEASE=trixie")
    installed.machine.write("/root/receiver.py", RECEIVER)
    installed.machine.run("systemd-run", "-q", "--unit=receiver", "python3", "/root/receiver.py")
    lay(installed, "first")
    return installed


def lay(agent: Installed, secret: str) -> None:
    """Lays a secret for each destination into its store, which the receiver wants from now on."""
    for what in ("metrics", "logs"):
        agent.machine.write(f"/root/right/{what}", f"{secret}-{what}")
    agent.machine.sh(
        "umask 077; mkdir -p /etc/credstore /etc/credstore.encrypted; "
        f"cp /root/right/metrics {PLAIN}; "
        f"systemd-creds encrypt --with-key=host --name=telemetry-agent.logs /root/right/logs {ENCRYPTED} 2>/dev/null"
    )


def taken(agent: Installed, secret: str) -> None:
    """Returns when the receiver has seen both secrets, and taken what came with them."""
    wanted = {f"{what} Bearer {secret}-{what} 204" for what in ("metrics", "logs")}

    def arrived() -> bool:
        agent.machine.run("systemd-cat", "echo", "there is something to send")
        return wanted <= set(agent.machine.read("/root/asked").splitlines())

    agent.until(arrived, f"both secrets, {secret}")


def test_the_drop_ins_are_those_that_this_systemd_understands(installed: Installed) -> None:
    placed = installed.machine.run("sh", "-c", f"ls {DROP_INS} 2>/dev/null; :").split()
    wanted = [f"10-systemd-{least}.conf" for least in (253, IMPORTS, REFRESHES) if systemd(installed) >= least]
    assert [name for name in placed if "systemd" in name] == wanted
    said = installed.machine.run("journalctl", "-b", "--no-pager", "-o", "cat", "_PID=1")
    assert "Unknown key" not in said + installed.machine.run(
        "sh", "-c", f"systemd-analyze verify --man=no {UNIT} 2>&1; :"
    )


def test_a_credential_that_is_not_there_is_told_with_the_line_that_would_bring_it(installed: Installed) -> None:
    installed.machine.write(CONFIG, SHIPPING)
    installed.machine.run("systemctl", "restart", UNIT, check=False)
    installed.until(
        lambda: "no such credential" in installed.said(200) or "systemd credential" in installed.said(200), "why"
    )
    assert "LoadCredential=telemetry-agent.metrics:" in installed.said(200)


def test_secrets_in_the_credential_stores_arrive_at_their_destinations_and_nowhere_else(stored: Installed) -> None:
    stored.machine.write(CONFIG, SHIPPING)
    stored.machine.run("systemctl", "restart", UNIT)
    taken(stored, "first")
    said = stored.machine.run("systemd-analyze", "security", "--no-pager", UNIT)
    assert float(re.findall(r"exposure level .*: (\d+\.\d+)", said)[0]) <= 1.2
    found = stored.machine.run("sh", "-c", "grep -rlF first-logs /etc /var /opt /run 2>/dev/null; :").split()
    assert [path for path in found if not path.startswith("/run/credentials/")] == []
    assert "first-metrics" not in stored.machine.run("journalctl", "-b", "--no-pager", "-o", "verbose")


def test_install_sh_checks_a_configuration_with_the_secrets_of_the_stores(
    stored: Installed, sources: tuple[object, object, object]
) -> None:
    stored.machine.write(CONFIG, SHIPPING)
    said = stored.install("--upgrade", source=sources[1])  # type: ignore[arg-type]  # a path, as the fixture says
    assert "Done." in said
    taken(stored, "first")
    assert stored.status()["version"] == "99.0.0"


def test_secrets_are_rotated_by_a_restart_and_by_a_reload_where_systemd_refreshes_them(stored: Installed) -> None:
    stored.machine.write(CONFIG, SHIPPING)
    stored.machine.run("systemctl", "restart", UNIT)
    taken(stored, "first")
    lay(stored, "second")
    stored.machine.run("systemctl", "restart", UNIT)
    taken(stored, "second")
    lay(stored, "third")
    pid = stored.pid()
    stored.machine.run("systemctl", "reload", UNIT)
    if systemd(stored) >= REFRESHES:
        taken(stored, "third")
        assert stored.pid() == pid
    else:
        stored.machine.run("systemctl", "restart", UNIT)
        taken(stored, "third")
    stored.until(
        lambda: "exit 0" in stored.machine.run("sh", "-c", "telemetry-agent ledger --check; echo exit $?"), "law"
    )
    assert all(lane["state"] == "idle" or lane["waiting_records"] < 100 for lane in stored.status()["lanes"])
