"""Ask of a folder of images: what if?

    python counterfactual.py --do thickness=5 --do digit=3 --out out
    python counterfactual.py IMAGES --do digit=3,slant=0.2 --out out --guidance 3 --abduction dynamic

Each --do is one query; commas join variables into one intervention. OUT gets a PNG for each image and query,
counterfactuals.csv with every attribute before, after and as measured on the result, and grid.png. With --paste,
OUT/pasted/QUERY repeats the folder of the images, each at its own size and depth and changed only where the query
changes it.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from dscm import assets, checkpoint, cli
from dscm.data.folder import UnreadableImage, find_images, read_attributes, read_pixels
from dscm.data.mammogram import Framing
from dscm.data.scaling import to_levels, to_signed, to_unit
from dscm.data.sets import place_back, read_file
from dscm.errors import InputError, exit_on_input_error
from dscm.figures import Row, draw_sheet, effect_map, to_picture
from dscm.files import atomic_path
from dscm.graphs import Graph, get_graph
from dscm.metrics import l1, observe
from dscm.noise import SavedNoise, write_noise
from dscm.noise import describe as describe_noise
from dscm.paste import change_mask, paste

SHOWN = 12  # images on the contact sheet


@dataclass(frozen=True)
class Query:
    """One intervention, with the text that asked for it."""

    text: str
    do: dict[str, float]


@dataclass(frozen=True)
class Batch:
    """Images that could be read: their paths, and the observation (image in [-1, 1] and attributes)."""

    paths: list[Path]
    obs: dict[str, Tensor]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", type=Path, metavar="IMAGES",
                        help="a folder of PNG, JPEG or BMP images (default: bundled ones)")  # fmt: skip
    parser.add_argument(
        "--do", action="append", required=True, metavar="NAME=VALUE[,…]", help="a query; may be repeated"
    )
    parser.add_argument("--out", type=Path, required=True, help="the folder to write")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="CKPT", help="of the image's mechanism (default: the bundled semantic one)"
    )
    cli.add_parts_arguments(parser)
    parser.add_argument("--guidance", type=cli.number(float, 0, open_low=True), default=1.5, help="ω (default: 1.5)")
    parser.add_argument("--batch", type=cli.number(int, 1), default=64, help="images at a time (default: 64)")
    parser.add_argument("--paste", action="store_true",
                        help="also blend what changed into the images themselves, in OUT/pasted")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that has content")
    parser.add_argument("--save-noise", type=Path, metavar="FILE", help="keep what was abducted, for later queries")
    parser.add_argument(
        "--load-noise", type=Path, metavar="FILE", help="what an earlier run abducted from the images, in its batches"
    )
    cli.add_sampling_arguments(parser)
    cli.add_abduction_arguments(parser)
    cli.add_machine_arguments(parser)
    return parser.parse_args()


@torch.no_grad()
def main() -> int:
    """Answer every query for every image; returns the exit code."""
    args = parse_arguments()
    device = cli.set_up_machine(args.device, args.threads)
    args.checkpoint = args.checkpoint or cli.choose_checkpoints(args.data, ["semantic"])[0]
    mechanism, content = checkpoint.restore(args.checkpoint, "image", device)
    graph, framing = get_graph(content["graph"]), Framing.of(content.get("settings", {}))
    cli.choose_parts(args, graph)
    args.images = args.images or assets.SAMPLES[graph.data_set]
    oracle = cli.restore_oracle(graph, args.oracle, device)
    learned = cli.restore_attributes(graph, args.attributes, device)
    queries = [parse_query(text, graph) for text in args.do]
    cli.check_null_token(args.checkpoint, content.get("settings", {}).get("p_null"), [args.guidance], [args.abduction])
    mechanism.sampling = cli.read_sampling(args, args.guidance, args.abduction, args.cta_lr)
    scm = graph.scm(mechanism, learned).to(device)

    paths = find_images(args.images)
    given = read_given_attributes(args.images, paths, graph)
    cli.check_output(args.out, args.overwrite)
    if args.save_noise and args.save_noise.exists() and (args.save_noise.is_dir() or not args.overwrite):
        raise InputError(f"--save-noise {args.save_noise}: exists; name another file, or replace it with --overwrite")
    names = output_names(paths)
    about = describe_noise(args.checkpoint, [path.as_posix() for path in paths], mechanism.sampling)
    saved = SavedNoise(args.load_noise, about) if args.load_noise else None
    args.batch = saved.batch if saved else args.batch
    unreadable: dict[Path, str] = {}

    def batches() -> Iterator[Batch]:
        return read_batches(args, paths, given, graph, mechanism.shape, framing, oracle, device, unreadable)

    if saved:
        saved.check(batch.obs for batch in batches())
    sheet: list[Row] = []
    with ExitStack() as files:
        keep = files.enter_context(write_noise(args.save_noise, about, args.batch)) if args.save_noise else None
        table = files.enter_context(write_table(args.out / "counterfactuals.csv", graph))
        bar = files.enter_context(tqdm(total=len(paths), unit="image", desc="counterfactuals"))
        files.enter_context(cli.alignment_bar(mechanism))
        for index, batch in enumerate(batches()):
            generator = cli.seed_batch(args.seed, index * args.batch, device)
            noise = saved.read(index, device) if saved else scm.abduct(batch.obs, generator)
            if keep:
                keep(batch.obs, noise)
            composed = scm.predict(noise)["image"] if args.paste or not sheet else None
            answers = []
            for query in queries:
                answer = scm.predict(noise, query.do)
                write_images(args.out, batch, query, answer["image"], names)
                if args.paste:
                    paste_images(args, batch, query, answer["image"], composed, names, graph, framing)
                table.writerows(describe(batch, query, answer, graph, oracle))
                answers.append(answer["image"])
            sheet = sheet or sheet_rows(batch, composed, queries, answers)
            bar.update(len(batch.paths))
    if sheet:
        title = f"{args.checkpoint.stem}, guidance {args.guidance:g}. Under each counterfactual what it changed in the"
        draw_sheet(args.out / "grid.png", sheet, f"{title} composition: red is brighter, blue darker.")
    return report(args, graph, len(paths), unreadable, given is not None)


def parse_query(text: str, graph: Graph) -> Query:
    """Read ``name=value[,name=value…]``.

    Raises:
        InputError: it is no such list, a variable is named twice or unknown, or a value is outside its domain.
    """
    do: dict[str, float] = {}
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        try:
            number = float(value)
        except ValueError:
            number = None
        if not name or not equals or number is None:
            raise InputError(f"--do {text}: '{part}' is not of the form name=number")
        if name in do:
            raise InputError(f"--do {text}: {name} is set twice")
        do[name] = number
    graph.check_do(do)
    return Query(",".join(f"{name}={value!r}".removesuffix(".0") for name, value in do.items()), do)


def read_given_attributes(folder: Path, paths: list[Path], graph: Graph) -> dict[str, Tensor] | None:
    """Read the folder's ``attributes.csv``; None where there is none, and attributes are read off the images."""
    path = folder / "attributes.csv"
    if not path.exists():
        return None
    names = [variable.name for variable in graph.attributes]
    whole = [variable.name for variable in graph.attributes if variable.discrete]
    given = read_attributes(path, [p.as_posix() for p in paths], names, whole)
    for variable in graph.attributes:
        for image, value in zip(paths, given[variable.name].tolist()):
            if variable.kind != "circular" and not variable.low <= value <= variable.high:
                raise InputError(f"{path}: {variable.name} of {image} is {value:g}; allowed: {variable.domain}")
    return given


def read_batches(
    args: argparse.Namespace,
    paths: list[Path],
    given: dict[str, Tensor] | None,
    graph: Graph,
    shape: tuple[int, int, int],
    framing: Framing,
    oracle: Any,
    device: torch.device,
    unreadable: dict[Path, str],
) -> Iterator[Batch]:
    """Yield the images in batches with their attributes; what cannot be read goes into ``unreadable``."""
    for start in range(0, len(paths), args.batch):
        kept, images = [], []
        for i in range(start, min(start + args.batch, len(paths))):
            try:
                images.append(read_file(graph, args.images / paths[i], shape, framing))
                kept.append(i)
            except UnreadableImage as error:
                unreadable[paths[i]] = str(error)
        if kept:
            x = to_signed(torch.stack(images)).to(device)
            known = {k: v[kept].to(device) for k, v in given.items()} if given else observe(x, graph, oracle)
            yield Batch([paths[i] for i in kept], {**known, "image": x})


def output_names(paths: list[Path]) -> dict[Path, Path]:
    """Name each image's outputs by its path without the ending, which is kept where two would collide."""
    count = Counter(path.with_suffix("") for path in paths)
    names = {path: path if count[path.with_suffix("")] > 1 else path.with_suffix("") for path in paths}
    return names if len(set(names.values())) == len(paths) else {path: path for path in paths}


def write_images(out: Path, batch: Batch, query: Query, images: Tensor, names: dict[Path, Path]) -> None:
    """Write one PNG for each image of the answer to a query."""
    for path, image in zip(batch.paths, to_levels(images)):
        name = names[path]
        with atomic_path(out / name.with_name(f"{name.name}__{query.text}.png")) as temporary:
            to_picture(image).save(temporary, format="PNG")


def paste_images(
    args: argparse.Namespace,
    batch: Batch,
    query: Query,
    images: Tensor,
    composed: Tensor,
    names: dict[Path, Path],
    graph: Graph,
    framing: Framing,
) -> None:
    """Write, at the size and depth of each image, the image with what the query changed blended into it."""
    layers = torch.cat([to_unit(images), change_mask(images, composed)], dim=1).cpu()  # (B, C + 1, H, W)
    for path, square in zip(batch.paths, layers):
        pixels = read_pixels(args.images / path)
        layer = place_back(graph, square, pixels, framing)
        name = names[path]
        target = args.out / "pasted" / query.text / name.with_name(f"{name.name}.png")
        with atomic_path(target) as temporary:
            Image.fromarray(paste(pixels, layer[:-1], layer[-1:])).save(temporary, format="PNG")


@contextmanager
def write_table(path: Path, graph: Graph) -> Iterator[csv.DictWriter]:
    """Yield a writer of ``counterfactuals.csv``, which is whole when the block ends."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        table = csv.DictWriter(file, columns(graph), lineterminator="\n")
        table.writeheader()
        yield table


def columns(graph: Graph) -> list[str]:
    """List the columns of ``counterfactuals.csv``."""
    attributes = [variable.name for variable in graph.attributes]
    kinds = [f"{kind}{name}" for kind in ("", "counterfactual_", "measured_") for name in attributes]
    return ["image", "query", *kinds, "l1"]


def describe(
    batch: Batch, query: Query, answer: dict[str, Tensor], graph: Graph, oracle: Any
) -> Iterator[dict[str, Any]]:
    """Yield the table's row of each image: attributes before, after, as measured, and the L1 to the factual."""
    measured = observe(answer["image"], graph, oracle)
    distance = l1(answer["image"], batch.obs["image"])
    for i, path in enumerate(batch.paths):
        row = {"image": path.as_posix(), "query": query.text, "l1": f"{distance[i].item():.5f}"}
        for variable in graph.attributes:
            name = variable.name
            for column, values in (
                (name, batch.obs),
                (f"counterfactual_{name}", answer),
                (f"measured_{name}", measured),
            ):
                row[column] = f"{values[name][i].item():.5g}"
        yield row


def sheet_rows(batch: Batch, composed: Tensor, queries: list[Query], answers: list[Tensor]) -> list[Row]:
    """Return the contact sheet's rows for the first images: the pictures, and under each answer its effect map."""
    some = slice(0, SHOWN)
    rows = [Row("observation", to_levels(batch.obs["image"][some])), Row("composition", to_levels(composed[some]))]
    for query, answer in zip(queries, answers):
        rows.append(Row(f"do({query.text})", to_levels(answer[some])))
        rows.append(Row("effect", effect_map(answer[some], composed[some]), attached=True))
    return rows


def report(args: argparse.Namespace, graph: Graph, total: int, unreadable: dict[Path, str], given: bool) -> int:
    """Say what was done and what was skipped; returns the exit code: 1 if an image could not be read."""
    guessed = ", ".join(variable.name for variable in graph.predicted)
    parts = [f"measured on the images: {', '.join(graph.measured)}"] * bool(graph.measured)
    parts += [f"predicted by the oracle: {guessed}"] * bool(guessed)
    print(f"factual attributes: {'from attributes.csv' if given else '; '.join(parts)}")
    read = total - len(unreadable)
    print(f"{read} images, {len(args.do)} queries → {args.out}/{'grid.png, ' if read else ''}counterfactuals.csv")
    for path, reason in unreadable.items():
        print(f"skipped {path}: {reason}", file=sys.stderr)
    return 1 if unreadable else 0


if __name__ == "__main__":
    with exit_on_input_error():
        sys.exit(main())
