"""This file is ``telemetry-agent ledger [--json] [--check]``: what became of every record, by destination.

It reads the spool itself, so it answers the same whether the agent runs or not. Exit status: 0 the law holds ·
1 it does not · 2 the spool cannot be read. Without ``--check`` nothing is judged and 0 means that it was read.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from agent.cli.printing import cut, print_json

if TYPE_CHECKING:
    import argparse
    import sqlite3
    from collections.abc import Iterator, Sequence

    from agent.spool.ledger import Balance
    from agent.spool.recount import Account, Recount

HOLDS, BROKEN, UNREADABLE = 0, 1, 2
NAME_COLUMNS: Final = 26
MOST_REASONS: Final = 6
MOST_BATCHES: Final = 10
MEND: Final = (
    "Restart the agent: it replaces a spool whose counts do not add up, takes over what can be read, and counts the\n"
    "difference as dropped{damaged}. 'telemetry-agent spool check' says whether batches are damaged."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``ledger``."""
    parser.add_argument("--json", action="store_true", help="for programs")
    parser.add_argument("--check", action="store_true", help="count again: exits 0 if it adds up, 1 if not, 2 unread")


def run(arguments: argparse.Namespace) -> int:
    """Prints the ledger as of the last commit and returns the exit status."""
    from agent.cli.spool_reading import reading
    from agent.spool.inspection import SpoolUnreadable

    show = _checked if arguments.check else _shown
    try:
        with reading(arguments) as (connection, _):
            return show(connection, as_json=arguments.json)
    except SpoolUnreadable as error:
        print(f"telemetry-agent: {error}", file=sys.stderr)
        return UNREADABLE


def _shown(connection: sqlite3.Connection, *, as_json: bool) -> int:
    from agent.spool.recount import standing

    balances, unrouted = standing(connection)
    if as_json:
        print_json({"lanes": {balance.lane: balance.document() for balance in balances}})
    else:
        print("\n".join(table(balances, unrouted)))
    return HOLDS


def _checked(connection: sqlite3.Connection, *, as_json: bool) -> int:
    from itertools import islice

    from agent.spool.recount import recount, untrusted_headers

    counted = recount(connection)
    untrusted = list(islice(untrusted_headers(connection), MOST_BATCHES))
    holds = counted.holds and not untrusted
    if as_json:
        print_json(check_document(counted, untrusted))
    else:
        print("\n".join([*verdict(counted, untrusted), *([] if holds else ["", MEND])]))
    return HOLDS if holds else BROKEN


# What people read


def table(balances: Sequence[Balance], unrouted: dict[str, int]) -> Iterator[str]:
    """The ledger as text: a line a lane, and beneath it why records were refused or let go."""
    heads = ("read", "delivered", "rejected", "dropped", "waiting")
    yield f"{'LANE':{NAME_COLUMNS}}" + "".join(f"{head:>14}" for head in heads)
    for balance in balances:
        rejected, dropped = sum(balance.rejected.values()), sum(balance.dropped.values())
        numbers = (balance.read, balance.delivered, rejected, dropped, balance.waiting)
        yield f"{cut(balance.lane, NAME_COLUMNS):{NAME_COLUMNS}}" + "".join(f"{number:>14,}" for number in numbers)
        if balance.orphaned:
            yield "  orphaned: no longer configured; 'telemetry-agent spool retire' lets go of what waits"
        yield from _reasons("rejected", balance.rejected)
        yield from _reasons("dropped", balance.dropped)
    if not balances:
        yield "no lanes: no destination has been configured yet"
    if unrouted:
        yield from ("", "UNROUTED (no destination takes them)")
        yield from (f"  {cut(flow, 40):40} {records:>14,}" for flow, records in sorted(unrouted.items()))


def verdict(counted: Recount, untrusted: Sequence[str]) -> Iterator[str]:
    """A line a lane; for a broken one each number and the difference, by source too."""
    for account in counted.accounts:
        yield f"{cut(account.balance.lane, 60)}: {'holds' if account.holds else 'BROKEN'}: {_sum(account.balance)}"
        yield from _differences(account)
    if not counted.accounts:
        yield "holds: no lane has ever been configured, so there is nothing to account for"
    if counted.strays:
        yield f"BROKEN: {counted.strays:,} batches belong to no lane there is"
    yield from (f"BROKEN: {reason}" for reason in untrusted)
    if len(untrusted) == MOST_BATCHES:
        yield f"  (only the first {MOST_BATCHES} batches are shown)"


def _sum(balance: Balance) -> str:
    rejected, dropped = sum(balance.rejected.values()), sum(balance.dropped.values())
    return (
        f"{balance.read:,} read {'≠' if balance.missing else '='} {balance.delivered:,} delivered + "
        f"{rejected:,} rejected + {dropped:,} dropped + {balance.waiting:,} waiting"
    )


def _differences(account: Account) -> Iterator[str]:
    if account.balance.missing:
        yield f"  {_missing(account.balance.missing)}"
    for line in account.broken_sources:
        yield (
            f"  source {cut(line.source, 40)}: {line.read:,} read ≠ {line.delivered:,} delivered + {line.rejected:,} "
            f"rejected + {line.dropped:,} dropped + {line.waiting:,} waiting: {_missing(line.missing)}"
        )
    if account.waiting_by_index != account.balance.waiting:
        yield (
            f"  {account.balance.waiting:,} records wait by the table and {account.waiting_by_index:,} by its index: "
            f"the difference is {account.balance.waiting - account.waiting_by_index:+,}"
        )


def _missing(records: int) -> str:
    if records > 0:
        return f"{records:,} records are unaccounted for"
    return f"{-records:,} records more than were ever read"


def _reasons(outcome: str, reasons: Any) -> Iterator[str]:
    if reasons:
        most = sorted(reasons.items(), key=lambda item: -item[1])
        more = f" · and {len(most) - MOST_REASONS} more reasons" if len(most) > MOST_REASONS else ""
        yield f"  {outcome}: " + " · ".join(f"{cut(why, 40)} {n:,}" for why, n in most[:MOST_REASONS]) + more


# What programs read


def check_document(counted: Recount, untrusted: Sequence[str]) -> dict[str, Any]:
    """``ledger --json`` with what the recount found: whether it holds, and the difference of each lane and source."""
    return {
        "lanes": {account.balance.lane: account.balance.document() for account in counted.accounts},
        "holds": counted.holds and not untrusted,
        "differences": {
            account.balance.lane: _difference(account) for account in counted.accounts if not account.holds
        },
        "batches_of_no_lane": counted.strays,
        "untrusted_batches": list(untrusted),
    }


def _difference(account: Account) -> dict[str, Any]:
    return {
        "missing": account.balance.missing,
        "sources": {line.source: line.missing for line in account.broken_sources},
        "waiting_by_index": account.waiting_by_index,
    }
