"""The same minute under two schedulers, side by side: a film, or a still picture of its end.

    python examples/video.py                            static:batch=16 and multibin -> schedulers.gif
    python examples/video.py dynamic edf -o edf.mp4     any schedulers; MP4 needs imageio and imageio-ffmpeg
    python examples/video.py -o end.png                 the last frame only

GIF and PNG are written with Pillow, which comes with matplotlib.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

if __name__ == "__main__" and not __package__:
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # from the checkout, not from examples/

import numpy as np
from gymnasium.error import InvalidAction
from numpy.typing import NDArray
from PIL import Image

from llmsched.eval.cli.readers import number
from llmsched.policies import parse
from llmsched_env.commands.parser import OneLineParser, refuse
from llmsched_env.commands.process import run_and_exit, run_guarded
from llmsched_env.commands.terminal import show
from llmsched_env.envs.scalar import LLMSchedEnv
from llmsched_env.files.writing import check_file, write_bytes
from llmsched_env.simulation.compiled_calls import call_compiled
from llmsched_env.simulation.simulator import policy_failure

PROGRAM = "video.py"

Picture = NDArray[np.uint8]


def pictures(
    policy: str, times: NDArray[np.float64], seed: int, rate: float, width: int, height: int
) -> Iterator[Picture]:
    """What an episode under ``policy`` looks like at each of ``times`` (s), or at its end."""
    ready = parse(policy).ready(LLMSchedEnv(rate=rate).config)
    config = ready.config
    env = LLMSchedEnv("rgb_array", simulation=config, rate=rate, requests=int(rate * times[-1] * 1.5) + 50)
    memory, rng = np.zeros(max(1, ready.memory_size)), np.random.default_rng(seed)
    clock, over = env.reset(seed=seed)[1]["time_s"], False
    for time_s in times:
        while clock < time_s and not over:  # a decision stands until the next one: what lies between is known then
            try:
                choice, size = call_compiled(ready.decide, env.record, ready.params, memory, rng)
            except Exception as error:  # whatever the code of a policy raises
                raise policy_failure(error, clock) from None
            _, _, terminated, truncated, info = env.step((choice, min(size, config.max_batch)))
            clock, over = info["time_s"], terminated or truncated
        yield env.picture(time_s, width=width, height=height, title=policy)


def films(options: argparse.Namespace) -> Iterator[Picture]:
    """The two side by side, frame by frame."""
    frames = max(1, round(options.seconds * options.fps / options.speed))
    times = options.start + options.seconds * np.arange(1, frames + 1) / frames
    if options.output.suffix == ".png":
        times = times[-1:]
    both = [
        pictures(policy, times, options.seed, options.rate, options.width, options.height)
        for policy in options.policies
    ]
    for parts in zip(*both, strict=True):
        yield np.hstack(parts) if options.side_by_side else np.vstack(parts)


def encoded(frames: Iterator[Picture], suffix: str, fps: float) -> bytes:
    """A GIF or PNG by Pillow, anything else by imageio."""
    content = io.BytesIO()
    if suffix == ".png":
        still = Image.fromarray(next(frames)).quantize(256, dither=Image.Dither.NONE)
        still.save(content, format="png", optimize=True)
    elif suffix == ".gif":
        images = [Image.fromarray(frame).quantize(128, dither=Image.Dither.NONE) for frame in frames]
        more, ms = images[1:], round(1000 / fps)
        images[0].save(content, format="gif", save_all=True, append_images=more, duration=ms, loop=0)
    else:
        import imageio.v2 as imageio  # optional

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"film{suffix}"
            with imageio.get_writer(path, fps=fps, macro_block_size=8) as film:
                for frame in frames:
                    film.append_data(frame)
            return path.read_bytes()
    return content.getvalue()


def make_parser() -> OneLineParser:
    """The arguments."""
    parser = OneLineParser(prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("policies", nargs="*", default=["static:batch=16", "multibin"], help="one or more schedulers")
    add("-o", "--output", type=Path, default=Path("schedulers.gif"), help="GIF, MP4 or PNG")
    add("--start", type=number(0, 1e6), default=120.0, help="s of the clock before the film begins")
    add("--seconds", type=number(0.1, 3600), default=60.0, help="s of the clock in the film")
    add("--speed", type=number(0.1, 1000), default=5.0, help="s of the clock in a second of the film")
    add("--fps", type=number(1, 60), default=10.0, help="frames per second of the film")
    add("--rate", type=number(0, 1000, above=True), default=2.5, help="requests/s")
    add("--seed", type=number(0, 2**31, whole=True), default=1)
    add("--width", type=number(640, 4096, whole=True), default=960)
    add("--height", type=number(420, 4096, whole=True), default=600)
    add("--stacked", dest="side_by_side", action="store_false", help="one above the other")
    return parser


def film(argv: Sequence[str]) -> int:
    """Write the film that the arguments ask for; returns the exit code."""
    options = make_parser().read(argv)
    try:
        check_file(options.output, "--output")
        write_bytes(options.output, encoded(films(options), options.output.suffix, options.fps))
    except ImportError as error:
        refuse(PROGRAM, f"{error}: give a file .gif or .png, or pip install imageio imageio-ffmpeg")
    except (ValueError, InvalidAction) as error:
        refuse(PROGRAM, str(error))
    show(str(options.output))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run with the arguments ``argv`` (default: the command line); the exit code."""
    return run_guarded(PROGRAM, film, argv)


if __name__ == "__main__":
    run_and_exit(main)
