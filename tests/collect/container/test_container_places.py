"""Whose log a file is, is told by its path; what is known of the container, by what its engine keeps on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.collect.container.details import LOOK_SECONDS, MOST_FILES, Details, Known
from agent.collect.container.places import Place, place_of

ID = "0123456789ab" + "c" * 52


@pytest.mark.parametrize(
    ("path", "engine", "id_", "labels"),
    [
        (f"/var/lib/docker/containers/{ID}/{ID}-json.log", "docker", ID, {}),
        (f"/var/lib/docker/containers/{ID}/{ID}-json.log.2.gz", "docker", ID, {}),
        (f"/data/overlay-containers/{ID}/userdata/ctr.log", "podman", ID, {}),
        (f"/home/me/.local/share/containers/storage/vfs-containers/{ID}/userdata/ctr.log", "podman", ID, {}),
        ("/var/log/pods/shop_web-0_0a1b-2c/nginx/3.log", "kubernetes", "", {"namespace": "shop", "pod": "web-0"}),
        ("/var/log/pods/shop_web-0_0a1b-2c/nginx/3.log.20261120-101010.gz", "kubernetes", "", {"container": "nginx"}),
        (f"/var/log/containers/web-0_shop_nginx-{ID}.log", "kubernetes", ID, {"pod": "web-0", "container": "nginx"}),
        (f"/var/lib/docker/containers/{ID}/other.log", "", "", {}),
        (f"/x/{ID}/{'d' * 64}-json.log", "", "", {}),
        ("/var/log/nginx/access.log", "", "", {}),
        ("", "", "", {}),
    ],
)
def test_a_path_tells_the_engine_the_container_and_its_labels(
    path: str, engine: str, id_: str, labels: dict[str, str]
) -> None:
    place = place_of(path)
    assert (place.engine, place.id) == (engine, id_)
    assert labels.items() <= dict(place.labels).items()
    assert place.short_id == id_[:12]


def docker(directory: Path, name: str = "web") -> Place:
    (directory / ID).mkdir(exist_ok=True)
    path = directory / ID / "config.v2.json"
    path.write_text(f'{{"Name":"/{name}","Config":{{"Image":"shop:3","Labels":null}}}}')
    return place_of(f"{directory}/{ID}/{ID}-json.log")


def test_what_an_engine_keeps_is_looked_at_now_and_then_and_remembered_when_it_is_gone(tmp_path: Path) -> None:
    place, known = docker(tmp_path), Known()
    assert known.of(place, 100.0) == (Details("web", "shop:3"), "")
    docker(tmp_path, "renamed")
    assert known.of(place, 101.0)[0].name == "web"
    assert known.of(place, 100.0 + LOOK_SECONDS)[0].name == "renamed"
    Path(place.config).unlink()
    assert known.of(place, 200.0) == (Details("renamed", "shop:3"), "")


def test_why_nothing_is_known_is_said(tmp_path: Path) -> None:
    place, known = docker(tmp_path), Known()
    Path(place.config).write_text("{")
    assert known.of(place, 100.0) == (Details(), "it is not understood")
    Path(place.config).unlink()
    assert known.of(place, 200.0) == (Details(), "No such file or directory")
    docker(tmp_path)
    assert known.of(place, 300.0) == (Details("web", "shop:3"), "")


def test_of_a_podman_container_that_is_younger_than_the_last_look_the_file_is_read_again(tmp_path: Path) -> None:
    config = tmp_path / "overlay-containers" / "containers.json"
    config.parent.mkdir()
    first, second = f"a{ID[1:]}", f"b{ID[1:]}"
    places = [place_of(f"{config.parent}/{each}/userdata/ctr.log") for each in (first, second)]
    known = Known()
    config.write_text(f'[{{"id":"{first}","names":["one"],"metadata":"{{\\"image-name\\":\\"i\\"}}"}}]')
    assert known.of(places[0], 100.0) == (Details("one", "i"), "")
    assert known.of(places[1], 100.0) == (Details(), "it is not in there")
    config.write_text(f'[{{"id":"{second}","names":null,"metadata":"none"}},{{"id":"x"}}]')
    assert known.of(places[1], 100.5) == (Details("", ""), "")
    assert known.of(places[0], 101.0) == (Details("one", "i"), "")


def test_what_is_remembered_is_bounded(tmp_path: Path) -> None:
    known = Known()
    for number in range(MOST_FILES + 10):
        known.of(Place("docker", ID, config=f"{tmp_path}/{number}"), 100.0)
    assert len(known._files) == MOST_FILES
