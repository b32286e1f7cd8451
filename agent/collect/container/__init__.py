"""This folder reads what containers write, from the files of Docker, Podman and CRI runtimes."""
