"""The image, the compose file and the example settings say what the program takes."""

import re
import tomllib

import yaml

from conftest import ROOT

DEPLOY = ROOT / "deploy"
ROLES = {
    "identity", "catalog", "item-store", "vector-search", "model-registry", "file-indexer", "gateway",
}


def test_compose_runs_every_role_apart():
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    roles = {
        name for name, service in services.items() if service.get("command", [None])[0] == "serve"
    }
    assert roles == ROLES
    for role in roles:
        assert services[role]["command"] == ["serve", "--roles", role]
        variable = f"QUARRY_NEIGHBOURS__{role.upper().replace('-', '_')}"
        url = services["gateway"]["environment"].get(variable)
        assert role == "gateway" or url == f"http://{role}:7070"
    for name, service in services.items():
        for needed in service.get("depends_on", []):
            assert needed in services, (name, needed)


def test_compose_spells_out_no_secret():
    text = (DEPLOY / "compose.yaml").read_text()
    for name, value in re.findall(r"^ *(\w*(?:PASSWORD|SECRET\w*KEY|TOKEN)): *(\S+)", text, re.M):
        assert "${" in value or "file" in name.lower() or value.startswith("/"), (name, value)


def test_the_image_runs_as_nobody_in_particular():
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert "USER 10001:10001" in lines
    assert any(line.startswith("HEALTHCHECK") and '"quarry", "health"' in line for line in lines)


def test_a_mounted_volume_belongs_to_the_images_user():
    """A new volume has the owner of the place where it is mounted: without one it is root's."""
    image = (DEPLOY / "Dockerfile").read_text()
    [made] = re.findall(r"install -d -o quarry -g quarry -m 0700 (.+)", image)
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for name in ROLES:
        for volume in compose["services"][name]["volumes"]:
            source, place = volume.split(":")[:2]
            assert source in compose["volumes"] and place in made.split(), (name, volume)


def test_example_settings_are_settings():
    """Every key is one of the program's own struct."""
    source = (ROOT / "services/quarry/src/serve/settings.rs").read_text()
    known = set(re.findall(r"pub (\w+):", source))
    telemetry = (ROOT / "crates/telemetry/src/settings.rs").read_text()
    known |= set(re.findall(r"pub (\w+):", telemetry))
    files = sorted((DEPLOY / "settings").glob("*.toml"))
    assert len(files) == 3
    for path in files:
        settings = tomllib.loads(path.read_text())
        for key, value in settings.items():
            assert key in known, (path.name, key)
            for inner in value if isinstance(value, dict) else []:
                assert inner in known, (path.name, key, inner)
