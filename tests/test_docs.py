"""What the pages name exists: commands, options, settings, profiles, rules, headings, messages."""

import argparse
import ast
import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from snakemake.cli import get_argument_parser

from unet_core.options import parser

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), ROOT / "config/README.md", *(ROOT / "docs").rglob("*.md")])
COMMENTED = sorted(
    [*ROOT.glob("profiles/*/*.yaml"), ROOT / "config/config.yaml", ROOT / "environment.yml"]
)
SETTINGS: dict[str, Any] = yaml.safe_load(
    (ROOT / "workflow/schemas/config.schema.yaml").read_text()
)["properties"]
SECTIONS = {name: told["properties"] for name, told in SETTINGS.items() if "properties" in told}
FILES = {"json", "zarr", "smk", "py", "pt", "html", "csv", "tsv", "tif", "md", "work", "rst"}
"""What follows a section's name in the name of a file."""


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=ids)
each_text = pytest.mark.parametrize("page", [*PAGES, *COMMENTED], ids=ids)


@cache
def text_of(page: Path) -> str:
    """Lines of a command that go on are joined."""
    return re.sub(r"\\\n\s*", " ", page.read_text())


def code(page: Path) -> Iterator[str]:
    """Lines of blocks of code, and what stands between backticks."""
    text = text_of(page)
    if page.suffix != ".md":
        yield from re.findall(r"^# (?:    |.*: )((?:unet-core|snakemake) .*)$", text, re.MULTILINE)
        return
    for block in re.findall(r"^\s*```[a-z]*\n(.*?)^\s*```", text, re.MULTILINE | re.DOTALL):
        yield from block.splitlines()
    prose = re.sub(r"^\s*```.*?^\s*```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from (" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose))


def calls(page: Path, program: str) -> Iterator[list[str]]:
    """Words after each call of a program, up to what ends the command."""
    for line in code(page):
        for found in re.findall(rf"(?:^|[\s/])(?<!-n ){program}((?: +[^\s|;&#>)]+)*)", line):
            yield [word.strip("'\",.:") for word in found.split()]


@cache
def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (
        action.choices
        for action in parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return dict(found)


@cache
def snakemake_options() -> frozenset[str]:
    """Those of the executors that are installed, too."""
    actions = get_argument_parser()._actions
    return frozenset(option for action in actions for option in action.option_strings)


@each_text
def test_commands_and_their_options_exist(page: Path) -> None:
    for words in calls(page, "unet-core"):
        if not words or not re.fullmatch("[a-z]+", words[0]):
            continue
        assert words[0] in commands(), f"unet-core {words[0]}"
        known = {option for act in commands()[words[0]]._actions for option in act.option_strings}
        given = {word.split("=")[0] for word in words if word.startswith("--")}
        assert given <= known, f"unet-core {words[0]}"


@each_text
def test_options_of_snakemake_exist(page: Path) -> None:
    for words in calls(page, "snakemake"):
        options = [word.split("=")[0] for word in words if re.match("--?[a-zA-Z]", word)]
        given = {re.sub(r"^(-\w)\d+$", r"\1", option) for option in options}
        assert given <= snakemake_options(), words


@each_text
def test_profiles_and_configurations_that_are_named_exist(page: Path) -> None:
    for words in calls(page, "snakemake"):
        for option, value in pairwise(words):
            if option in ("--profile", "--workflow-profile") and not value.startswith(
                ("~", "none", "site")
            ):
                folder = ROOT / ("profiles" if option == "--workflow-profile" else "") / value
                assert (folder / "config.yaml").is_file(), value
            if option == "--configfile" and "mine" not in value:
                assert (ROOT / value).is_file(), value


@each_page
def test_rules_that_are_asked_for_exist(page: Path) -> None:
    files = [ROOT / "workflow/Snakefile", *(ROOT / "workflow/rules").glob("*.smk")]
    rules = "".join(path.read_text() for path in files)
    for words in calls(page, "snakemake"):
        if words and re.fullmatch("[a-z]+", words[0]):
            assert re.search(rf"^ *(rule|checkpoint) {words[0]}:", rules, re.MULTILINE), words[0]


@each_text
def test_settings_that_are_named_exist(page: Path) -> None:
    names = "|".join(SECTIONS)
    for line in code(page):
        for section, key in re.findall(rf"(?<![\w./-])({names})\.([a-z_]\w*)\b(?![(.])", line):
            assert key in SECTIONS[section] or key in FILES, f"{section}.{key}"


@each_page
def test_yaml_that_is_shown_holds_settings_or_options_of_profiles(page: Path) -> None:
    blocks = re.findall(r"^ *```yaml\n(.*?)^ *```", text_of(page), re.MULTILINE | re.DOTALL)
    for block in blocks:
        for key, value in yaml.safe_load(block).items():
            if f"--{key}" in snakemake_options():
                continue
            assert key in SETTINGS, key
            if key in SECTIONS:
                assert set(value) <= set(SECTIONS[key]), key


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"^\s*```.*?^\s*```", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, heading = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), target
        if heading:
            assert heading in set(headings(linked)), target


def headings(page: Path) -> Iterator[str]:
    """As addresses within the page."""
    for title in re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@each_page
def test_targets_of_make_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in calls(page, "make"):
        assert {word for word in words[:1] if re.fullmatch("[a-z-]+", word)} <= targets, words


def test_every_page_of_docs_is_linked_from_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in readme, page.name


def test_a_command_line_with_quotes_is_one_that_a_shell_can_read() -> None:
    for page in PAGES:
        for line in code(page):
            if line.strip().startswith(("snakemake ", "unet-core ")):
                shlex.split(line, comments=True)


SLURMS = {
    *("TIMEOUT", "NODE_FAIL", "MaxSubmitJobLimit", "exceeded memory limit", "oom-kill"),
    "Job violates accounting/QOS policy",
}
"""Messages of Slurm itself, as seen on one."""


def strings(file: Path) -> Iterator[str]:
    """Texts of a program, one line each, what is put into them as `*`."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "*" for part in node.values)
            yield " ".join("".join(map(str, parts)).split())
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield " ".join(re.sub(r"%(\.\d)?[a-z]", "*", node.value).split())


def test_messages_that_the_guide_explains_are_those_that_are_printed() -> None:
    others = ("snakemake.exceptions", "snakemake.io", "snakemake_executor_plugin_slurm")
    found = (importlib.util.find_spec(name) for name in others)
    files = [Path(spec.origin) for spec in found if spec is not None and spec.origin]
    said = {text for path in [*ROOT.glob("unet_core/**/*.py"), *files] for text in strings(path)}
    guide = (ROOT / "docs/hpc.md").read_text().split("## When something fails")[1]
    table = re.findall(r"^\|[^|]*\|([^|]*)\|[^|]*\|[^|]*\|$", guide, re.MULTILINE)[2:]
    messages = {each for cell in table for each in re.findall("`([^`]+)`", cell)}
    own = {each for each in messages if re.search(" .* ", each) and "squeue" not in each}
    assert len(own - SLURMS) > 10
    for message in own - SLURMS:
        # What stands for something else, and a number: X, N MB, SIGUSR1, 'CANCELLED', ...
        parts = re.split(r"\b(?:[A-Z]|SIG\w+|\d+)\b|'[A-Z_]+'|\.\.\.", message)
        wanted = [part.strip() for part in parts if part.strip(" :'")]
        assert any(all(part in text for part in wanted) for text in said), message
