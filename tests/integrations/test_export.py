"""Agents of Stable-Baselines3 in the compiled simulator: exported they decide as `model.predict` does."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")
pytest.importorskip("sb3_contrib")

from gymnasium import spaces  # noqa: E402
from sb3_contrib import QRDQN, MaskablePPO, RecurrentPPO  # noqa: E402
from stable_baselines3 import A2C, DQN, PPO  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize  # noqa: E402

from llmsched.policies.agent import checkpoint  # noqa: E402
from llmsched.train import export, sb3_zip  # noqa: E402
from llmsched_env.envs.scalar import LLMSchedEnv  # noqa: E402
from tests.faults.tools import run  # noqa: E402
from tests.policies.agent.tools import SCENARIOS, check_equal, compiled, drive, requests_of  # noqa: E402
from tests.project.pages import ROOT, blocks  # noqa: E402

ENVIRONMENTS: dict[str, tuple[str, dict[str, Any]]] = {  # scenario: what --env and --env-options say of it
    "batch": ("LLMSched-v0", {"bins": [0, 80, 140, 350], "max_batch": 12}),
    "batch, overdue": ("LLMSched-v0", {"bins": [0, 80, 140], "max_batch": 16, "overdue_factor": 1.0}),
    "continuous, overdue": (
        "LLMSchedContinuous-v0",
        {"bins": [0, 80, 140], "max_bins": 5, "max_batch": 20, "overdue_factor": 1.0, "prefix_cache": "off"},
    ),
    "continuous, prefix cache": (
        "LLMSchedContinuous-v0",
        {"bins": [0, 140], "max_batch": 48, "prefix_cache": "on", "kv_tokens": 6000},
    ),
}
LEARNERS: dict[str, tuple[type, str, dict[str, Any]]] = {
    "PPO": (PPO, "multidiscrete", {}),
    "PPO, ReLU": (PPO, "ladder", {"policy_kwargs": {"activation_fn": torch.nn.ReLU, "net_arch": [16]}}),
    "A2C, no hidden layer": (A2C, "ladder", {"policy_kwargs": {"net_arch": []}}),
    "MaskablePPO": (MaskablePPO, "multidiscrete", {}),
    "MaskablePPO, ladder": (MaskablePPO, "ladder", {}),
    "DQN": (DQN, "ladder", {"buffer_size": 10}),
}


def trained(learner: str, scenario: str, seed: int = 0) -> Any:
    """A model with clear preferences: nobody trained it, but its last layer is far from the zeros it begins with."""
    kind, action, about = LEARNERS[learner]
    config, _, bins = SCENARIOS[scenario]
    env = LLMSchedEnv(simulation=config, bins=(0, *config.queueing.edges), max_bins=bins, action=action)
    model = kind("MlpPolicy", env, seed=seed, device="cpu", **about)
    with torch.no_grad():
        for name, values in model.policy.named_parameters():
            if name.startswith(("action_net", "q_net.")):
                values.mul_(30.0 if name.startswith("action_net") else 2.0)
    return model


def exported(model: Any, scenario: str, folder: Path, action: str, *more: str) -> Path:
    """The agent that the command writes."""
    model.save(folder / "agent.zip")
    env, options = ENVIRONMENTS[scenario]
    words = ("--env", env, "--env-options", json.dumps({**options, "action": action}), "--out", folder / "mine")
    ended = run(folder / "agent.zip", *words, *more, main=export.main)
    assert ended.code == 0 and "agent:path=" in ended.out, ended
    return folder / "mine"


@pytest.mark.parametrize("learner", LEARNERS)
@pytest.mark.parametrize("scenario", ENVIRONMENTS)
def test_an_exported_agent_decides_as_the_model_predicts(learner: str, scenario: str, tmp_path: Path) -> None:
    """Equal stamps on the same requests."""
    (config, _, bins), requests, action = SCENARIOS[scenario], requests_of(scenario), LEARNERS[learner][1]
    model = trained(learner, scenario)
    path = exported(model, scenario, tmp_path, action)
    masked = isinstance(model, MaskablePPO)
    seen = set()

    def act(observation: Any, mask: Any) -> Any:
        extra = {"action_masks": mask} if masked else {}
        found, _ = model.predict(observation, deterministic=True, **extra)
        seen.add(tuple(np.atleast_1d(found).tolist()))
        return found

    env = drive(act, config, requests, action, bins)
    check_equal(env, compiled(f"agent:path={path}", config, requests, env))
    assert len(seen) > 1
    about = checkpoint.load(path).about
    assert about["algorithm"] == type(model).__name__ and about["masked"] == masked
    assert about["kind"] == ("q" if isinstance(model, DQN) else "logits")
    assert about["source"]["env"] == ENVIRONMENTS[scenario][0]


def test_a_trained_agent_runs_in_compare(tmp_path: Path) -> None:
    """The command that export prints, with the options of the environment."""
    model = trained("DQN", "batch").learn(200)
    path = exported(model, "batch", tmp_path, "ladder")
    ended = run("--policies", f"agent:path={path}", "--max-batch", "12", "--bins", "4", "--json")
    assert ended.code == 0 and json.loads(ended.out)["policies"][0]["completed"] == 40, ended
    assert "max_batch=12, but this run has 13" in run(
        "--policies", f"agent:path={path}", "--max-batch", "13", "--bins", "4"
    ).refused("trained for")


# What is refused ---------------------------------------------------------------------------------------------------


def refused(folder: Path, *said: str, options: dict[str, Any] | None = None, more: tuple[str, ...] = ()) -> None:
    """Export of agent.zip in ``folder`` ends with a line."""
    given = {"bins": [0, 80, 140, 350], "max_batch": 12} if options is None else options
    words = ("--env", "LLMSched-v0", "--env-options", json.dumps(given), *more)
    run(folder / "agent.zip", *words, "--out", folder / "mine", main=export.main).refused(*said)
    assert not list(folder.glob("mine*"))


class Plain(LLMSchedEnv):
    """Observations in another form."""

    def __init__(self, space: spaces.Space) -> None:
        super().__init__(bins=(0, 80, 140, 350), max_batch=12, requests=20)
        self.observation_space = space

    def reset(self, **about: Any) -> Any:
        return self.observation_space.sample(), {}


def save(folder: Path, kind: type, policy: str, space: spaces.Space, **about: Any) -> None:
    """An untrained agent."""
    kind(policy, Plain(space), device="cpu", **about).save(folder / "agent.zip")


BOX = spaces.Box(-1.0, 1.0, (85,), np.float32)


def test_other_networks_are_refused(tmp_path: Path) -> None:
    """Recurrent, a CNN, a dictionary of observations, quantiles, another activation."""
    save(tmp_path, RecurrentPPO, "MlpLstmPolicy", BOX)
    refused(tmp_path, "recurrent", "Enter it as a Python function, --policies FILE.py:act")
    save(tmp_path, PPO, "CnnPolicy", spaces.Box(0, 255, (36, 36, 1), np.uint8))
    refused(tmp_path, "it is a CNN", "only multi-layer perceptrons")
    save(tmp_path, PPO, "MultiInputPolicy", spaces.Dict({"picture": spaces.Box(0, 255, (36, 36, 1), np.uint8)}))
    refused(tmp_path, "dictionary of observations")
    save(tmp_path, PPO, "MultiInputPolicy", spaces.Dict({"vector": BOX}))
    refused(tmp_path, "dictionary of observations")
    save(tmp_path, PPO, "MlpPolicy", BOX, policy_kwargs={"activation_fn": torch.nn.GELU})
    refused(tmp_path, "its activation is <class 'torch.nn.modules.activation.GELU'>: exported are Tanh and ReLU")
    QRDQN("MlpPolicy", LLMSchedEnv(action="ladder"), device="cpu", buffer_size=10).save(tmp_path / "agent.zip")
    refused(tmp_path, "sb3_contrib.qrdqn")


def test_other_spaces_are_refused_with_both(tmp_path: Path) -> None:
    trained("PPO", "batch").save(tmp_path / "agent.zip")
    refused(tmp_path, "of 85 entries and actions [5, 13]", "has 85 and [5, 33]", options={"max_batch": 32, "bins": 4})
    refused(tmp_path, "has 98 and [6, 13]", options={"max_batch": 12, "bins": 5})
    refused(tmp_path, "has 85 and [31]", options={"max_batch": 12, "action": "ladder", "bins": 4})
    refused(tmp_path, "LLMSched has no option 'bin'", options={"bin": 4})
    refused(tmp_path, "--activation relu", more=("--activation", "relu"))


def test_what_was_done_to_observations_has_to_be_said(tmp_path: Path) -> None:
    """A file of VecNormalize beside the zip: the user says whether it changed observations."""
    model = trained("PPO", "batch")
    model.save(tmp_path / "agent.zip")
    (tmp_path / "vecnormalize.pkl").write_bytes(b"")
    refused(tmp_path, "vecnormalize.pkl lies beside it", "--vec-normalize", "--raw-observations")
    exported(model, "batch", tmp_path, "multidiscrete", "--raw-observations")


def normaliser(scenario: str, **about: Any) -> VecNormalize:
    """Scaling that clips some entries at both ends, over an environment of the scenario."""
    config, _, bins = SCENARIOS[scenario]
    env = LLMSchedEnv(simulation=config, bins=(0, *config.queueing.edges), max_bins=bins)
    found = VecNormalize(DummyVecEnv([lambda: env]), clip_obs=1.5, **about)
    if not found.norm_obs:
        return found
    rng, size = np.random.default_rng(0), found.obs_rms.mean.shape
    found.obs_rms.mean, found.obs_rms.var = rng.uniform(0.0, 0.5, size), rng.uniform(0.001, 0.1, size)
    return found


@pytest.mark.parametrize("protocol", [4, 5])
def test_an_agent_of_normalised_observations_decides_as_the_model_predicts(protocol: int, tmp_path: Path) -> None:
    """Equal stamps on the same requests, with the file of VecNormalize in both forms that arrays are pickled in."""
    config, _, bins = SCENARIOS["batch"]
    requests, scaling, model = requests_of("batch"), normaliser("batch"), trained("PPO", "batch")
    kept = tmp_path / "vecnormalize.pkl"
    kept.write_bytes(pickle.dumps(scaling, protocol=protocol))
    path = exported(model, "batch", tmp_path, "multidiscrete", "--vec-normalize", str(kept))
    seen, clipped = set(), 0

    def act(observation: Any, mask: Any) -> Any:
        nonlocal clipped
        scaled = scaling.normalize_obs(observation)
        clipped += int((np.abs(scaled) == 1.5).sum())
        found, _ = model.predict(scaled, deterministic=True)
        seen.add(tuple(found.tolist()))
        return found

    env = drive(act, config, requests, "multidiscrete", bins)
    check_equal(env, compiled(f"agent:path={path}", config, requests, env))
    assert len(seen) > 1 and clipped > 100


def test_files_that_are_no_scaling_are_refused(tmp_path: Path) -> None:
    """In one line, without running what they hold; a file of rewards alone changes nothing."""
    trained("PPO", "batch").save(tmp_path / "agent.zip")
    whole, kept = pickle.dumps(normaliser("batch")), tmp_path / "scaling.pkl"
    bad = normaliser("batch")
    bad.obs_rms.var = bad.obs_rms.var - 1.0
    short = normaliser("continuous, overdue")
    for content, said in (
        (b"", "is no file of VecNormalize"),
        (whole[: len(whole) // 2], "is no file of VecNormalize"),
        (pickle.dumps(Evil(tmp_path / "ran")), "holds no VecNormalize"),
        (pickle.dumps({"obs_rms": 1}), "holds no VecNormalize"),
        (pickle.dumps(bad), "that no training gives"),
        (pickle.dumps(short), "where the agent sees 85"),
    ):
        kept.write_bytes(content)
        refused(tmp_path, said, more=("--vec-normalize", str(kept)))
    refused(tmp_path, "none.pkl", more=("--vec-normalize", str(tmp_path / "none.pkl")))
    assert not (tmp_path / "ran").exists()
    kept.write_bytes(pickle.dumps(normaliser("batch", norm_obs=False)))
    path = exported(trained("PPO", "batch"), "batch", tmp_path, "multidiscrete", "--vec-normalize", str(kept))
    assert "low" not in checkpoint.load(path).arrays


class Evil:
    """What it becomes when it is unpickled: a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def edit(path: Path, change: Any) -> None:
    """Change the JSON in a zip of Stable-Baselines3."""
    with zipfile.ZipFile(path) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(found["data"])
    change(data)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in found.items():
            archive.writestr(name, json.dumps(data) if name == "data" else content)


def test_what_a_zip_does_not_say_is_asked_for(tmp_path: Path) -> None:
    """An activation that is not told; a policy class that is not the library's."""
    trained("PPO", "batch").save(tmp_path / "agent.zip")
    edit(tmp_path / "agent.zip", lambda data: data.pop("policy_kwargs"))
    refused(tmp_path, "it does not say its activation: give --activation tanh or relu")
    words = ("--env", "LLMSched-v0", "--env-options", json.dumps({"max_batch": 12, "bins": 4}), "--out")
    ended = run(tmp_path / "agent.zip", *words, tmp_path / "out", "--activation", "relu", main=export.main)
    assert ended.code == 0 and checkpoint.load(tmp_path / "out").about["activation"] == "relu", ended
    edit(tmp_path / "agent.zip", lambda data: data["policy_class"].update({"__module__": "mine"}))
    refused(tmp_path, "its policy is of 'mine'")


def weights(path: Path, change: Any, compression: int = zipfile.ZIP_STORED) -> None:
    """Replace the weights in a zip of Stable-Baselines3 by what ``change`` makes of them."""
    with zipfile.ZipFile(path) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    found["policy.pth"] = change(found["policy.pth"])
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in found.items():
            archive.writestr(name, content)


def torch_bytes(value: Any) -> bytes:
    """``value`` as torch saves it."""
    content = io.BytesIO()
    torch.save(value, content)
    return content.getvalue()


class Touch:
    """A pickle that would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_damaged_and_hostile_zips_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a line; nothing in them is run, and no more is read than should be there."""
    path, mark = tmp_path / "agent.zip", tmp_path / "touched"
    trained("PPO", "batch").save(path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        state = torch.load(io.BytesIO(archive.read("policy.pth")), weights_only=True)
    wide = torch.zeros(1).expand(2**20, 2**20)  # one number in the file
    for change, said in (
        (lambda _: torch_bytes(Touch(mark)), "cannot be read as plain tensors"),
        (lambda _: torch_bytes({**state, "action_net.bias": Touch(mark)}), "cannot be read as plain tensors"),
        (lambda _: torch_bytes([1]), "no tensors by name"),
        (lambda _: torch_bytes({**state, "action_net.weight": wide}), "no plain tensor of numbers of an expected size"),
        (lambda _: torch_bytes({**state, "action_net.bias": [1.0]}), "no plain tensor"),
        (lambda _: torch_bytes({**state, "action_net.bias": state["action_net.bias"][1:]}), "perceptron"),
        (lambda _: torch_bytes({k: v for k, v in state.items() if "action" not in k}), "not complete"),
        (lambda content: content[:-500], "cannot be read as plain tensors"),
        (lambda _: b"", "cannot be read as plain tensors"),
    ):
        path.write_bytes(whole)
        weights(path, change)
        refused(tmp_path, said)
    assert not mark.exists()
    for content, said in ((whole[:-2000], "no file of Stable-Baselines3"), (b"PK", "no file of Stable-Baselines3")):
        path.write_bytes(content)
        refused(tmp_path, said)
    path.write_bytes(whole)
    edit(path, lambda data: data.clear())
    refused(tmp_path, "its policy is of 'no module'")
    path.write_bytes(whole)
    weights(path, lambda content: content + bytes(2**22), zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(sb3_zip, "MOST_BYTES", 2**20)
    refused(tmp_path, "policy.pth has more than 1,048,576 bytes")


# The page ----------------------------------------------------------------------------------------------------------


def test_the_lines_of_the_page_for_plain_torch_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the agent that they save runs in compare."""
    page = ROOT / "docs" / "howto" / "own_agent.md"
    (lines,) = [block.text for block in blocks(page) if "from torch import nn" in block.text]
    monkeypatch.chdir(tmp_path)
    exec(compile(lines, "page", "exec"), {})
    assert run("--policies", "agent:path=mine", "--max-batch", "16").code == 0
