"""Which edit of a setting reruns what, and nothing more."""

import dataclasses

import pytest
import yaml

from tests.workflow.conftest import Project, plans
from tests.workflow.edits import (
    ALONGSIDE,
    EDITS,
    SECTION_READERS,
    SETTING_READERS,
    TOLD,
    after,
    edit,
    stages,
)
from unet_core.config.load import canonical, load
from unet_core.config.presets import MODEL_SECTIONS
from unet_core.config.workflow import SECTIONS


@pytest.fixture(scope="module")
def edited(finished: Project) -> dict[str, set[str]]:
    """The jobs that each edit starts."""
    return dict(zip(EDITS, plans([(finished, edit(key)) for key in EDITS]), strict=True))


def test_every_setting_has_an_edit_here() -> None:
    settings = {
        f"{section}.{field.name}"
        for section, schema in (SECTIONS | MODEL_SECTIONS).items()
        for field in dataclasses.fields(schema)
    }
    assert set(EDITS) | set(TOLD) == settings


@pytest.mark.parametrize("key", TOLD)
def test_an_edit_of_a_preset_changes_what_training_is_told(key: str) -> None:
    section, name = key.split(".")
    model = {"depth": 5 if name == "encoder" else 2, "padding": "same"}
    alongside = model if section == "model" else {}
    before, after = (
        load(MODEL_SECTIONS[section], settings, section=section)
        for settings in (alongside, {**alongside, name: TOLD[key]})
    )
    assert canonical(dataclasses.asdict(before)) != canonical(dataclasses.asdict(after))


@pytest.mark.parametrize("key", [key for key in EDITS if key not in ALONGSIDE])
def test_an_edit_reruns_the_stages_that_read_it_and_what_follows(
    edited: dict[str, set[str]], key: str
) -> None:
    readers = SETTING_READERS.get(key, SECTION_READERS[key.split(".")[0]])
    assert stages(edited[key]) == after(readers)


@pytest.mark.parametrize("key", ALONGSIDE)
def test_an_edit_that_needs_another_reruns_the_readers_of_both(
    edited: dict[str, set[str]], key: str
) -> None:
    changed = [(section, name) for section, names in edit(key).items() for name in names]
    readers = set[str]().union(
        *(SETTING_READERS.get(f"{s}.{n}", SECTION_READERS[s]) for s, n in changed)
    )
    assert stages(edited[key]) == after(readers)


def test_a_finished_workflow_has_nothing_to_do(finished: Project) -> None:
    assert finished.plan() == set()
    assert "Nothing to be done" in finished.snakemake("-n").stdout


def test_an_edit_of_inference_never_retrains(edited: dict[str, set[str]]) -> None:
    assert not stages(edited["infer.dtype"]) & {"train", "augment train", "convert raw"}


def test_a_learning_rate_edit_never_reconverts(edited: dict[str, set[str]]) -> None:
    assert not stages(edited["train.learning_rate"]) & {"convert raw", "convert truth", "weights"}


def test_swapping_the_values_of_two_settings_reruns(finished: Project) -> None:
    # Snakemake compares the set of a rule's parameter values, blind to which is which.
    swapped = finished.plan(calibrate={"depths": [0.0, 1.0, 2.0][:2], "smoothing_px": [0.02, 0.05]})
    assert stages(swapped) == after({"calibrate"})
    contrast, brightness = {"contrast": 0.3, "brightness": 0.1}, {"contrast": 0.1}
    assert stages(finished.plan(augment=contrast)) == after({"augment train"})
    assert finished.plan(augment=brightness | {"brightness": 0.1}) == set()


def test_order_comments_and_defaults_spelt_out_rerun_nothing(project: Project) -> None:
    path = project.folder / "config/config.yaml"
    settings = yaml.safe_load(path.read_text())
    backwards = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value
        for key, value in reversed(settings.items())
    }
    path.write_text("# another comment\n" + yaml.safe_dump(backwards, sort_keys=False))
    assert project.plan() == set()
    path.write_text("volumes: config/volumes.tsv\n")
    assert project.plan() == set(), "defaults left out"
    spelt = {name: dataclasses.asdict(schema()) for name, schema in SECTIONS.items()}
    spelt["augment"].pop("patch")
    spelt["weights"]["border_weight"] = 10
    assert project.plan(**spelt) == set(), "10 for 10.0"
