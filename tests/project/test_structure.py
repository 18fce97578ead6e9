"""The shape of the project: which way imports run, what is heavy, how long files are, what none may contain."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from llmsched_env.compiler import parts

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("llmsched_env", "policies", "train", "eval", "data")
ALLOWED = {  # package: the packages of ours that it may import
    "llmsched_env": {"llmsched_env"},
    "policies": {"policies", "llmsched_env"},
    "train": {"train", "eval", "policies", "llmsched_env"},
    "eval": {"eval", "policies", "llmsched_env"},
    "data": {"eval", "llmsched_env"},  # data/calibrate.py, the one command that lies beside what it measures
}
LEVELS = ("files", "compiler", "core", "options", "commands", "engines", "", "simulation", "workload", "envs")
"""Folders of the library; a file imports from its own folder and from those before it.  "": files in no folder."""
LEARNING = {"torch", "stable_baselines3", "sb3_contrib", "tensorboard"}
HEAVY = {"numba", "pandas", "scipy", "matplotlib", *LEARNING}
GENERATORS = {"Generator", "SeedSequence", "PCG64", "BitGenerator", "default_rng"}
LONGEST = 400
FOLDERS = {"policies", "train", "eval", "data"}
"""Folders that are imported as parts of ``llmsched``."""
"""Lines that no file reaches."""
FULLEST = 14
"""Python files that a folder may hold."""
FULLER = {  # folder: why it may hold more
    "eval": "a file for each command",
    "train": "a file for each command",
    "policies/rules": "a file for each policy",
}


def module_name(path: Path) -> str:
    """Dotted name of a source file without the prefix ``llmsched.``, which all packages but the library have."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def bare(name: str) -> str:
    """A dotted name without the prefix ``llmsched.``; ``policies`` without the prefix is refused."""
    assert top(name) not in FOLDERS, f"{name}: write llmsched.{name}"
    return name.removeprefix("llmsched.")


@cache
def modules() -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    files = (file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py")))
    return {module_name(file): file for file in files}


@cache
def tree(name: str) -> ast.Module:
    """The parsed source of a module."""
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def is_type_checking(node: ast.AST) -> bool:
    """Whether ``node`` is an ``if TYPE_CHECKING`` block, which does not run."""
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every node under ``node`` that can run."""
    for child in ast.iter_child_nodes(node):
        if not is_type_checking(child):
            yield child
            yield from statements(child)


@cache
def imports(name: str) -> frozenset[str]:
    """Dotted names that a module imports, at the top or inside functions; of ours the module, not its contents."""
    found = set()
    for node in statements(tree(name)):
        if isinstance(node, ast.Import):
            found |= {bare(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import; write the full name"
            base = bare(node.module or "")
            for alias in node.names:
                found.add(f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules() else base)
    return frozenset(found)


def foreign(source: ast.Module) -> list[str]:
    """Imports of a source that are relative, or that lack the prefix ``llmsched.``, as they are written."""
    found = []
    for node in ast.walk(source):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if top(alias.name) in FOLDERS]
        elif isinstance(node, ast.ImportFrom) and (node.level or top(node.module or "") in FOLDERS):
            found.append("." * node.level + (node.module or ""))
    return found


def test_imports_outside_the_packages_have_full_names() -> None:
    """Tests, examples and the command in data/: ``llmsched.policies``, never ``policies``, and nothing relative."""
    files = [file for folder in ("tests", "examples", "data", "llmsched") for file in (ROOT / folder).rglob("*.py")]
    assert len(files) > 50
    for file in files:
        assert not foreign(ast.parse(file.read_text(encoding="utf-8"))), file.relative_to(ROOT)


def test_the_check_of_full_names_can_fail() -> None:
    """Bare and relative imports are found, full names are not."""
    assert foreign(ast.parse("import eval.compare\nfrom policies import parse\nfrom . import x")) == [
        "eval.compare",
        "policies",
        ".",
    ]
    assert not foreign(ast.parse("import llmsched.eval.compare\nfrom llmsched.policies import parse"))


def top(name: str) -> str:
    """The package of a dotted name."""
    return name.partition(".")[0]


def test_every_package_was_found() -> None:
    """The tests below look at something: 20 modules and more, and what the others import is among it."""
    assert {top(name) for name in modules()} >= {"llmsched_env", "policies", "eval"}
    assert len([name for name in modules() if top(name) == "llmsched_env"]) > 20
    assert "llmsched_env.engines.batch.formation" in imports("llmsched_env.engines.batch.execution")
    assert "llmsched_env.core.layout" in imports("llmsched_env.simulation.simulator")


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_run_one_way(package: str) -> None:
    """train -> eval -> policies -> llmsched_env: never back, never the tests."""
    for name in modules():
        if top(name) == package:
            wrong = {used for used in imports(name) if top(used) in {*PACKAGES, "tests"} - ALLOWED[package]}
            assert not wrong, f"{name} imports {', '.join(sorted(wrong))}"


def room(name: str) -> str:
    """The folder of the library in which a module lies, "" for the files in none."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LEVELS else ""


def library_imports() -> Iterator[tuple[str, str]]:
    """Every (module, imported module) within the library."""
    for name in modules():
        if top(name) == "llmsched_env":
            yield from ((name, used) for used in imports(name) & modules().keys() if top(used) == "llmsched_env")


def test_the_rooms_of_the_library_have_an_order() -> None:
    """envs -> workload -> simulation -> engines -> commands, options -> core -> compiler -> files: never back."""
    seen = set()
    for name, used in library_imports():
        assert LEVELS.index(room(used)) <= LEVELS.index(room(name)), f"{name} imports {used}"
        seen.add((room(name), room(used)))
    assert {("envs", "simulation"), ("simulation", "engines"), ("engines", "core"), ("core", "compiler")} <= seen


def test_the_engines_know_nothing_of_each_other() -> None:
    """The core imports no engine, an engine no other; only engines/__init__.py knows them all."""
    mine = re.compile(r"llmsched_env\.engines\.(\w+)\.")
    for name, used in library_imports():
        engine = mine.match(used)
        if engine and name != "llmsched_env.engines":
            own = mine.match(name)
            assert own and own[1] == engine[1] or engine[1] == "engine", f"{name} imports {used}"


def test_no_engine_is_compared_by_name() -> None:
    """Whoever has to know something about the engine asks the object."""
    for name in modules():
        if top(name) == "llmsched_env" and room(name) in ("core", "engines", "simulation", "envs"):
            for node in ast.walk(tree(name)):
                if isinstance(node, ast.Compare):
                    sides = [side.attr for side in (node.left, *node.comparators) if isinstance(side, ast.Attribute)]
                    assert not {"engine", "continuous"} & set(sides), f"{name}, line {node.lineno}"


def is_light(name: str) -> bool:
    """Whether a configuration is checked with this module of the library: options, engine objects, constants."""
    short = name.removeprefix("llmsched_env.")
    return short in {"core", "core.constants", "engines"} or short.startswith("options") or short.endswith(".engine")


def test_what_checks_a_configuration_is_light() -> None:
    """It is part of `import llmsched_env.config`, which loads no Numba: nothing in it imports what is compiled."""
    light = [name for name in modules() if top(name) == "llmsched_env" and is_light(name)]
    assert {"llmsched_env.engines.batch.engine", "llmsched_env.options.table"} <= set(light)
    for name in light:
        assert not {top(used) for used in imports(name)} & HEAVY, name
        assert all(is_light(used) for used in imports(name) & modules().keys()), name


def test_an_engine_is_compiled_when_it_is_asked_for() -> None:
    """The compiled entries of `continuous` are not loaded with the simulator, nor with the environments."""
    code = "import sys, llmsched_env.envs.scalar, llmsched_env.simulation.simulator as s; print(*sys.modules)"
    command, environment = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(ROOT)}
    loaded = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    assert "llmsched_env.engines.continuous.engine" in loaded.split()
    assert not {"llmsched_env.engines.continuous.run", "llmsched_env.engines.continuous.step"} & set(loaded.split())


@pytest.mark.parametrize(
    ("place", "counts"),
    [
        *((folder, True) for folder in ("compiler", "core", "core/view", "engines", "engines/batch")),
        *((folder, False) for folder in ("envs", "simulation", "workload", "envs/render")),
    ],
)
def test_the_cache_key_covers_what_is_compiled(place: str, counts: bool, tmp_path: Path, monkeypatch: Any) -> None:
    """A changed, new or removed file of the kernels changes it, in subfolders too; others do not."""
    shutil.copytree(ROOT / "llmsched_env", tmp_path / "llmsched_env", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(parts, "LIBRARY", tmp_path / "llmsched_env")
    plain, folder = parts.fingerprint(), tmp_path / "llmsched_env" / place
    file = next(path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py")
    file.write_text(file.read_text(encoding="utf-8") + "# changed", encoding="utf-8")
    changed = parts.fingerprint()
    (folder / "a_new_file.py").write_text("", encoding="utf-8")
    assert (changed != plain) == counts
    assert (parts.fingerprint() != changed) == counts


def test_no_import_cycles() -> None:
    """Every module can be imported first."""
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join((*path[path.index(name) :], name))
        if name not in done:
            for used in sorted(imports(name) & modules().keys()):
                visit(used, (*path, name))
            done.add(name)

    for name in modules():
        visit(name, ())


def test_learners_live_in_their_own_places() -> None:
    """torch and stable_baselines3: in train/, and where a real model is measured or served; matplotlib in eval/, and
    where the curves of training are drawn."""
    for name in modules():
        used = {top(used) for used in imports(name)}
        if top(name) != "train" and not re.match(r"eval\.(calibration|reality\.(vllm|in_process))\.", name):
            assert not used & LEARNING, name
        if top(name) != "eval" and name != "train.curves":
            assert "matplotlib" not in used, name


def loaded_by(statement: str) -> set[str]:
    """Top-level modules in a fresh process after ``statement``."""
    code = f"import sys; {statement}; print(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True)
    return set(run.stdout.split())


def test_the_policies_load_no_learner_and_no_figures() -> None:
    """Running `static` does not load torch."""
    loaded = loaded_by("import llmsched.policies, llmsched_env.simulation.simulator, llmsched_env.workload")
    assert {"llmsched", "numba"} <= loaded
    assert not loaded & {*LEARNING, "matplotlib"}


@pytest.mark.parametrize("statement", ["import llmsched_env", "import llmsched_env.config, llmsched_env.profiles"])
def test_import_is_light(statement: str) -> None:
    """A fresh `import llmsched_env` registers the environment and loads nothing that takes long."""
    loaded = loaded_by(statement)
    assert {"llmsched_env", "gymnasium"} <= loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("package", PACKAGES)
def test_files_are_short_and_say_what_they_are(package: str) -> None:
    """One concept a file, under 400 lines, with a docstring."""
    for name, path in modules().items():
        if top(name) == package:
            assert ast.get_docstring(tree(name)), f"{name} has no docstring"
            assert len(path.read_text(encoding="utf-8").splitlines()) < LONGEST, name


def python_files(*folders: str) -> list[Path]:
    """Every Python file below these folders of the project."""
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


def test_the_tests_are_short_and_say_what_they_are() -> None:
    """As the packages: one concept a file, under 400 lines, with a docstring."""
    files = python_files("tests")
    assert len(files) > 50
    for file in files:
        text, name = file.read_text(encoding="utf-8"), file.relative_to(ROOT)
        assert ast.get_docstring(ast.parse(text)), f"{name} has no docstring"
        assert len(text.splitlines()) < LONGEST, f"{name} is too long: divide it by concept"


def test_folders_are_small() -> None:
    """A folder holds at most 14 Python files, with the exceptions of FULLER; no exception outlives its need."""
    counts = Counter(str(file.parent.relative_to(ROOT)) for file in python_files(*PACKAGES, "llmsched", "tests"))
    assert counts["policies/rules"] > 10
    full = {folder for folder, count in counts.items() if count > FULLEST}
    assert full <= FULLER.keys(), f"more than {FULLEST} Python files: {', '.join(sorted(full - FULLER.keys()))}"
    assert FULLER.keys() <= full, f"no exception needed: {', '.join(sorted(FULLER.keys() - full))}"


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_public_has_a_docstring(package: str) -> None:
    """Classes, functions and methods without a leading underscore."""
    missing = []
    for name in modules():
        if top(name) == package:
            missing += [f"{name}.{place}" for place in undocumented(tree(name))]
    assert not missing, ", ".join(missing)


def undocumented(node: ast.Module | ast.ClassDef) -> Iterator[str]:
    """Public definitions directly in ``node``, and in its classes, that have no docstring."""
    for child in node.body:
        if isinstance(child, (ast.FunctionDef, ast.ClassDef)) and not child.name.startswith("_"):
            if not ast.get_docstring(child) and not is_overload(child):
                yield child.name
            if isinstance(child, ast.ClassDef):
                yield from (f"{child.name}.{place}" for place in undocumented(child))


def is_overload(node: ast.FunctionDef | ast.ClassDef) -> bool:
    """Whether ``node`` is a signature for the type checker only."""
    return any("overload" in ast.dump(decorator) for decorator in node.decorator_list)


@pytest.mark.parametrize("package", PACKAGES)
def test_no_global_random_numbers(package: str) -> None:
    """Randomness comes from generators that are passed down: no np.random.seed, no np.random.normal, no `random`."""
    for name in modules():
        if top(name) == package:
            assert "random" not in imports(name), name
            assert not any(used.startswith("numpy.random") for used in imports(name)), name
            wrong = [used for used in global_random(tree(name)) if used not in GENERATORS]
            assert not wrong, f"{name}: np.random.{', np.random.'.join(wrong)}"


def global_random(node: ast.AST) -> Iterator[str]:
    """Every x of ``np.random.x`` in a source."""
    for child in ast.walk(node):
        if isinstance(child, ast.Attribute) and isinstance(child.value, ast.Attribute) and child.value.attr == "random":
            owner = child.value.value
            if isinstance(owner, ast.Name) and owner.id in ("np", "numpy"):
                yield child.attr


def test_the_check_of_random_numbers_can_fail() -> None:
    """What it looks for is found."""
    source = "import numpy as np\nnp.random.seed(0)\nrng = np.random.default_rng(0)\nrng.random()"
    assert list(global_random(ast.parse(source))) == ["seed", "default_rng"]


MACHINE = re.compile(r"(?<![\w.~:/-])/(?:" + "|".join(("work", "tmp", "home", "root", "Users", "mnt", "opt")) + r")/\w")
"""An absolute path of one machine."""


def shipped_files() -> list[Path]:
    """Every file that belongs to the project."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
        return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    return [file for file in ROOT.rglob("*") if file.is_file() and "/." not in str(file.relative_to(ROOT))]


def test_no_machine_paths() -> None:
    """Nothing in the tree names a folder of the machine that it was made on."""
    files = shipped_files()
    assert len(files) > 50
    for file in files:
        text = file.read_bytes().decode("utf-8", errors="replace")
        found = MACHINE.search(text) if "\0" not in text else None
        assert found is None, f"{file.relative_to(ROOT)}: {found}"


def test_the_check_of_machine_paths_can_fail() -> None:
    """An absolute path is found; an address and a relative path are not."""
    assert MACHINE.search("open('" + "/" + "home/me/trace.csv')")
    assert MACHINE.search("PYTHONPATH=" + "/" + "work/main")
    assert not MACHINE.search("https://example.org/home/me")
    assert not MACHINE.search("see data/work/README and ../tmp/x")
