"""config.yaml, presets and schemas say what the dataclasses say."""

import dataclasses
import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.workflow.conftest import merged
from unet_core.config import canonical
from unet_core.config.networks.build import graph_of
from unet_core.config.presets import FAMILY, MODEL_SECTIONS, read_model
from unet_core.config.schema import schemas
from unet_core.config.workflow import SECTIONS, load_workflow

REPOSITORY = Path(__file__).parents[2]
CONFIG = REPOSITORY / "config"
SCHEMAS = schemas()
VALIDATORS = {
    kind: Draft202012Validator(yaml.safe_load(SCHEMAS[f"{kind}.schema.yaml"]))
    for kind in ("config", "model")
}


def told(path: Path) -> dict[str, Any]:
    settings = yaml.safe_load(path.read_text())
    assert isinstance(settings, dict)
    return settings


def plain(schema: Any) -> dict[str, Any]:
    values = json.loads(canonical(schema()))
    assert isinstance(values, dict)
    return values


@pytest.mark.parametrize("name", SECTIONS)
def test_config_yaml_lists_every_setting_with_its_default(name: str) -> None:
    section = told(CONFIG / "config.yaml")[name]
    assert section == plain(SECTIONS[name])
    assert list(section) == [field.name for field in dataclasses.fields(SECTIONS[name])]


@pytest.mark.parametrize("name", MODEL_SECTIONS)
def test_config_yaml_lists_the_settings_of_presets_as_comments(name: str) -> None:
    text = (CONFIG / "config.yaml").read_text()
    block = re.search(rf"^{name}:\n((?:  # .*\n)+)", text, re.MULTILINE)
    assert block is not None
    section = yaml.safe_load(re.sub(r"^  # ", "", block[1], flags=re.MULTILINE))
    assert section == plain(MODEL_SECTIONS[name])
    assert list(section) == [field.name for field in dataclasses.fields(MODEL_SECTIONS[name])]
    assert told(CONFIG / "config.yaml")[name] is None


def test_config_yaml_explains_every_setting() -> None:
    lines = (CONFIG / "config.yaml").read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        if re.match(r"  \w+:", line) and not before.startswith("pathvars"):
            assert before.startswith("  # "), line


@pytest.mark.parametrize("path", sorted(CONFIG.glob("models/*.yaml")), ids=lambda path: path.stem)
def test_a_preset_builds_a_network_and_says_how_it_is_trained(path: Path) -> None:
    one = path.with_stem(path.stem.replace(FAMILY, "resnet18"))
    graph = graph_of(read_model(one, {}).model)
    assert sum(node.layer.parameters for node in graph.nodes) > 0
    assert {"model", "train"} <= set(told(path)) <= set(MODEL_SECTIONS)
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize(
    "path", [None, *sorted(CONFIG.glob("*.yaml"))], ids=lambda path: path.stem if path else "none"
)
def test_a_configuration_is_accepted_with_its_presets_and_its_sheet(
    path: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    config = told(CONFIG / "config.yaml")
    if path:  # NAME-quick.yaml is laid over NAME.yaml
        for each in dict.fromkeys([path.with_stem(path.stem.removesuffix("-quick")), path]):
            config = merged(config, told(each))
    asked = load_workflow(config, presets=CONFIG / "models")
    assert {"train", "test"} <= {v.fold for v in asked.volumes.values()}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_is_that_of_the_dataclasses(name: str) -> None:
    path = REPOSITORY / "workflow/schemas" / name
    assert path.read_text() == SCHEMAS[name], "run `python -m unet_core.config.schema`"


@pytest.mark.parametrize(
    "path",
    sorted([*CONFIG.glob("*.yaml"), *CONFIG.glob("models/*.yaml")]),
    ids=lambda path: path.stem,
)
def test_a_configuration_obeys_its_schema(path: Path) -> None:
    kind = "model" if path.parent.name == "models" else "config"
    VALIDATORS[kind].validate(told(path))


def test_every_setting_of_the_schema_is_described() -> None:
    properties = yaml.safe_load(SCHEMAS["config.schema.yaml"])["properties"]
    bare = [
        f"{section}.{name}"
        for section in SECTIONS | MODEL_SECTIONS
        for name, setting in properties[section]["properties"].items()
        if not setting.get("description")
    ]
    assert bare == []
