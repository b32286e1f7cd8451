"""This file is the ``[collect.syslog]`` table, and the syslog source as the catalogue knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from agent.collect.parse_options import Timezone, zone_faults
from agent.contract import Component
from agent.options import LabelName, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractAsyncContextManager

    from agent.collect.syslog.source import SyslogSource
    from agent.contract import Context

Field = Literal["hostname", "app_name", "facility", "severity", "proc_id", "msg_id", "peer"]
FIELDS: Final[Mapping[Field, str]] = {"hostname": "host", "app_name": "app"}


class SyslogOptions(SourceOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The ``[collect.syslog]`` table."""

    udp_listen: Annotated[
        str | None,
        Meta(
            description="Address and port for datagrams, as '0.0.0.0:514' or '[::]:514'. What comes while nothing can "
            "be taken in is lost, and counted in telemetry_agent_source_lost_total."
        ),
    ] = None
    tcp_listen: Annotated[
        str | None,
        Meta(
            description="Address and port for connections, messages framed by octet count or by line ends. While the "
            "spool is full nothing is read, and senders wait."
        ),
    ] = None
    tls_listen: Annotated[
        str | None, Meta(description="Address and port for connections with TLS (RFC 5425, port 6514).")
    ] = None
    unix_path: Annotated[
        Annotated[str, Meta(pattern="^/")] | None,
        Meta(description="Path of a datagram socket to make, such as /run/telemetry-agent/syslog.sock or /dev/log."),
    ] = None
    unix_mode: Annotated[
        str,
        Meta(pattern="^0[0-7]{3}$", description="Permissions of that socket; whoever may write to it may log."),
    ] = "0666"
    cert_file: Annotated[
        str | None, Meta(description="Certificate chain (PEM) for tls_listen; '%d/NAME' is a credential.")
    ] = None
    key_file: Annotated[str | None, Meta(description="Private key (PEM) that belongs to cert_file.")] = None
    client_ca_file: Annotated[
        str | None,
        Meta(description="Authorities (PEM) one of which must have signed the certificate of every TLS client."),
    ] = None
    fields: Annotated[
        dict[Field, LabelName] | None,
        Meta(
            description="Fields of messages that become labels, and the labels' names; 'peer' is the sender's address. "
            "Left out: hostname as host and app_name as app. Where a message names no host the sender's address "
            "stands for it."
        ),
    ] = None
    metadata: Annotated[
        dict[Field, LabelName],
        Meta(description="Fields that are kept beside each record, and what they are called there."),
    ] = msgspec.field(default_factory=dict)
    max_label_sets: Annotated[
        int,
        Meta(
            ge=1,
            description="Most label sets within an hour; beyond them the fields are kept beside each record, which is "
            "counted.",
        ),
    ] = 1000
    timezone: Timezone = None
    max_message_bytes: Annotated[
        int, Meta(ge=480, le=4 << 20, description="A longer message is cut there and counted.")
    ] = 64 << 10
    max_unfinished_bytes: Annotated[
        int,
        Meta(
            ge=64 << 10,
            description="Most bytes held of messages that have begun and not ended, of all connections together; a "
            "message that would be more goes on as far as it has come.",
        ),
    ] = 8 << 20
    max_connections: Annotated[
        int, Meta(ge=1, le=65536, description="Connections open at once; one more is closed and counted.")
    ] = 2048
    max_connections_per_sender: Annotated[int, Meta(ge=1, le=65536, description="The same for one address.")] = 256
    idle_seconds: Annotated[
        float,
        Meta(ge=1, description="A connection that sends nothing for so long is closed; a TLS handshake has 10 s."),
    ] = 3600.0
    receive_buffer_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            le=1 << 30,
            description="Kernel's buffer for udp_listen. Without CAP_NET_ADMIN net.core.rmem_max bounds it; /status "
            "shows what it is.",
        ),
    ] = 4 << 20
    connection_buffer_bytes: Annotated[
        int,
        Meta(
            ge=4096,
            le=64 << 20,
            description="Kernel's buffer for each connection: about the most that was sent and that a killed agent has "
            "not taken in.",
        ),
    ] = 512 << 10
    block_bytes: Annotated[
        int, Meta(ge=4096, le=4 << 20, description="About how much is taken in before it is handed on.")
    ] = 1 << 20

    @property
    def label_fields(self) -> Mapping[Field, str]:
        """Each field that becomes a label, and the label's name."""
        return FIELDS if self.fields is None else self.fields

    @property
    def listening(self) -> Mapping[str, str]:
        """Where it listens, by the option that says so."""
        every = {
            "udp_listen": self.udp_listen,
            "tcp_listen": self.tcp_listen,
            "tls_listen": self.tls_listen,
            "unix_path": self.unix_path,
        }
        return {key: where for key, where in every.items() if where is not None}

    @property
    def lossy(self) -> bool:
        """Whether all that comes is lost where it has to wait: only datagrams from the network are."""
        return set(self.listening) == {"udp_listen"}

    def faults(self) -> Iterator[tuple[str, str]]:
        """Pairs of key and message for what the types of the single options cannot say."""
        if not self.listening:
            yield "udp_listen", "nothing says where to listen: give udp_listen, tcp_listen, tls_listen or unix_path"
        for key, where in self.listening.items():
            if key != "unix_path":
                try:
                    split_listen(where)
                except ValueError as error:
                    yield key, str(error)
        if self.tls_listen and not (self.cert_file and self.key_file):
            yield "tls_listen", "needs cert_file and key_file, the certificate that senders are shown and its key"
        for key in ("cert_file", "key_file", "client_ca_file"):
            if getattr(self, key) and not self.tls_listen:
                yield key, "is for tls_listen, which is not given"
        if self.timezone is not None:
            yield from zone_faults(self.timezone)


def split_listen(listen: str) -> tuple[str, int]:
    """Host and port of ``"127.0.0.1:514"`` or ``"[::1]:514"``. Raises ValueError with a sentence."""
    host, colon, port = listen.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or not host or (":" in host and not bracketed):
        raise ValueError(f'expected "ADDRESS:PORT" such as "0.0.0.0:514" or "[::]:514", got "{listen}"')
    if not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f'expected a port between 0 and 65535 after the last ":", got "{listen}"')
    return host[1:-1] if bracketed else host, int(port)


def _open(options: SyslogOptions, context: Context) -> AbstractAsyncContextManager[SyslogSource]:
    from agent.collect.syslog.source import open_syslog

    return open_syslog(options, context)


COMPONENT: Final = Component(
    name="syslog",
    options=SyslogOptions,
    open=_open,
    signals=("logs",),
    summary="Takes in syslog over UDP, TCP, TLS and a unix socket, RFC 3164 and RFC 5424.",
)
