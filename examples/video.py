"""The same minute under two schedulers, side by side: a film, or a still picture of its end.

    python examples/video.py                            static:batch=16 and multibin -> schedulers.gif
    python examples/video.py dynamic edf -o edf.mp4     any schedulers; MP4 needs imageio and imageio-ffmpeg
    python examples/video.py -o end.png                 the last frame only

GIF and PNG are written with Pillow, which comes with matplotlib.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from llmsched.policies import parse
from llmsched_env.envs.scalar import LLMSchedEnv

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
            choice, size = ready.decide(env.record, ready.params, memory, rng)
            _, _, terminated, truncated, info = env.step((choice, min(size, config.max_batch)))
            clock, over = info["time_s"], terminated or truncated
        yield env.picture(time_s, width=width, height=height, title=policy)


def films(options: argparse.Namespace) -> Iterator[Picture]:
    """The two side by side, frame by frame."""
    frames = round(options.seconds * options.fps / options.speed)
    times = options.start + options.seconds * np.arange(1, frames + 1) / frames
    if options.output.suffix == ".png":
        times = times[-1:]
    both = [
        pictures(policy, times, options.seed, options.rate, options.width, options.height)
        for policy in options.policies
    ]
    for parts in zip(*both, strict=True):
        yield np.hstack(parts) if options.side_by_side else np.vstack(parts)


def write(frames: Iterator[Picture], path: Path, fps: float) -> None:
    """A GIF or PNG with Pillow, anything else with imageio."""
    if path.suffix == ".png":
        Image.fromarray(next(frames)).quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    elif path.suffix == ".gif":
        images = [Image.fromarray(frame).quantize(128, dither=Image.Dither.NONE) for frame in frames]
        images[0].save(path, save_all=True, append_images=images[1:], duration=round(1000 / fps), loop=0)
    else:
        import imageio.v2 as imageio  # optional

        with imageio.get_writer(path, fps=fps, macro_block_size=8) as film:
            for frame in frames:
                film.append_data(frame)


def main() -> None:
    """Read the command line and write the film."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policies", nargs="*", default=["static:batch=16", "multibin"], help="one or more schedulers")
    parser.add_argument("-o", "--output", type=Path, default=Path("schedulers.gif"), help="GIF, MP4 or PNG")
    parser.add_argument("--start", type=float, default=120.0, help="s of the clock before the film begins")
    parser.add_argument("--seconds", type=float, default=60.0, help="s of the clock in the film")
    parser.add_argument("--speed", type=float, default=5.0, help="s of the clock in a second of the film")
    parser.add_argument("--fps", type=float, default=10.0, help="frames per second of the film")
    parser.add_argument("--rate", type=float, default=2.5, help="requests/s")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--width", type=int, default=960)
    parser.add_argument("--height", type=int, default=600)
    parser.add_argument("--stacked", dest="side_by_side", action="store_false", help="one above the other")
    options = parser.parse_args()
    write(films(options), options.output, options.fps)
    print(options.output)


if __name__ == "__main__":
    main()
