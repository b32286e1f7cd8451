"""This folder takes syslog in: over UDP, TCP, TLS and a unix socket."""
