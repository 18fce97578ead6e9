"""SECURITY.md says what executes code: no other file of the project can."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.project.pages import ROOT

PAGE = ROOT / "SECURITY.md"
FOLDERS = ("llmsched_env", "policies", "train", "eval", "data", "examples")
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "runpy", "code"}
NAMES = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    "exec_module",
    "spec_from_file_location",
    "read_pickle",
    "unsafe_load",
    "full_load",
    "load_module",
    "popen",
    "system",
}
LOADERS = {"torch.load", "yaml.load", "np.load", "numpy.load", "joblib.load"}
FLAGS = {"allow_pickle", "trust_remote_code", "shell"}
HARMLESS = {  # file: what is found there that runs nothing of others
    "eval/runs/ray_cluster.py": {"spec_from_file_location"},
    "train/sb3_scaling.py": {"pickle"},  # every name of the file stands for one class that only keeps what it is given
}


def dangers(source: str) -> set[str]:
    """What a source has that can execute what it reads."""
    return set(found_in(ast.parse(source)))


def found_in(tree: ast.AST) -> Iterator[str]:
    """One by one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in MODULES:
            yield str(node.module)
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name == "torch.load" and any(ast.unparse(keyword) == "weights_only=True" for keyword in node.keywords):
                continue  # tensors and nothing else
            if (
                name in NAMES
                or name in LOADERS
                or name.rpartition(".")[2] in ATTRIBUTES - {"system"}
                or name == "os.system"
            ):
                yield name.rpartition(".")[2] if name not in LOADERS else name
            for keyword in node.keywords:
                if keyword.arg in FLAGS and not (isinstance(keyword.value, ast.Constant) and not keyword.value.value):
                    yield str(keyword.arg)


def named_on_the_page() -> set[str]:
    """The files in the table of what executes code."""
    table = PAGE.read_text(encoding="utf-8").split("## What executes code")[1].split("## ")[0]
    return set(re.findall(r"\| `([a-z_/]+\.py)` \|", table))


def test_only_what_the_page_names_executes_code() -> None:
    """And every file that it names is there."""
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 200
    dangerous = {str(file.relative_to(ROOT)): dangers(file.read_text(encoding="utf-8")) for file in files}
    left = {name: what - HARMLESS.get(name, set()) for name, what in dangerous.items()}
    found = {name: what for name, what in left.items() if what}
    assert found.keys() <= named_on_the_page(), {name: found[name] for name in found.keys() - named_on_the_page()}
    assert {"policies/userfile.py", "train/callback.py"} <= found.keys()
    assert all((ROOT / name).is_file() for name in named_on_the_page())


STARTED = {
    "eval/speed/process.py": "this interpreter, on files of the project",
    "eval/speed/train.py": "this interpreter, on files of the project",
    "eval/speed/warmup.py": "this interpreter, on modules of the project",
    "llmsched_env/compiler/beside.py": "this interpreter, on a module of the project",
    "eval/runs/machine.py": "git, in the checkout",
    "train/ppo.py": "git, in the checkout",
}
"""By file: which program it starts, where nobody chooses it on the command line."""


def test_only_what_the_page_names_starts_programs_that_somebody_chooses() -> None:
    """All others start git or this interpreter."""
    files = [file for folder in FOLDERS for file in sorted((ROOT / folder).rglob("*.py"))]
    ways = re.compile(r"subprocess\.(run|Popen|call|check_\w+)\(|create_subprocess|os\.(exec|spawn|posix_spawn)")
    starting = {str(file.relative_to(ROOT)) for file in files if ways.search(file.read_text(encoding="utf-8"))}
    assert starting <= named_on_the_page() | STARTED.keys(), starting
    assert "eval/reality/serving/vllm_server.py" in starting & named_on_the_page() and starting >= STARTED.keys()


def test_what_is_looked_for_is_found() -> None:
    """Each of the ways."""
    for source in (
        "import pickle",
        "from pickle import loads",
        "eval('1')",
        "exec(x)",
        "np.load(f, allow_pickle=True)",
        "torch.load(f)",
        "torch.load(f, weights_only=flag)",
        "yaml.load(f)",
        "os.system('x')",
        "subprocess.run(x, shell=True)",
        "spec.loader.exec_module(m)",
        "AutoModel.from_pretrained(x, trust_remote_code=flag)",
    ):
        assert dangers(source), source
    assert not dangers("re.compile(x)\nplatform.system()\nread_array(f, allow_pickle=False)\nmodel.eval()\nimport json")
    assert not dangers("torch.load(f, weights_only=True)")


def test_a_file_of_others_that_would_run_something_does_not(tmp_path: Path) -> None:
    """A pickle in the place of every file that is read: nothing is executed."""
    from llmsched.policies.network import checkpoint
    from llmsched_env.profiles import load_profile
    from llmsched_env.workload.traces import read_trace

    mark = tmp_path / "executed"
    content = f"cos\nsystem\n(S'touch {mark}'\ntR.".encode()
    for name, read in (("x.csv", read_trace), ("x.json", load_profile), ("y.npz", checkpoint.load)):
        (tmp_path / name).write_bytes(content)
        (tmp_path / name).with_suffix(".json").write_bytes(content)
        try:
            read(tmp_path / name)
        except ValueError:
            continue
        raise AssertionError(name)
    assert not mark.exists()
