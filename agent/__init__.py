"""One service that collects telemetry, holds it where it cannot be lost, and ships it.

  host   journal   files   …  sources
    └───────┴────┬────┴─────┘
              collect      one batch at a time: where the records came from, and from where to resume
                 │
              process      redact, drop, label, end series; pure functions on whole batches
                 │
               spool       one SQLite file: batches, positions, cursors and counts, in one transaction
                 │
              export       one lane per destination and signal, each with its own cursor
                 │
  remote_write   loki   file   console

serve answers on a local port; supervise opens downstream first and drains upstream first;
config reads the tables; cli is one file a command; wire is formats: bytes in, values out.
"""

__version__ = "0.1.0"
