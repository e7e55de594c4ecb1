"""Ask of a folder of images: what if?

    python counterfactual.py --do thickness=5 --do digit=3 --out out
    python counterfactual.py IMAGES --do digit=3,slant=0.2 --out out --guidance 3 --abduction dynamic

Each --do is one query; commas join variables into one intervention:

    NAME=3.5  NAME=label     the same value for every image
    NAME=+1.5  NAME=*0.8     what was observed, more 1.5 or times 0.8
    NAME=flip                the other value of a binary variable
    NAME=@FILE.csv:COLUMN    each image's own value, from the row of FILE that names it
    NAME=@sub/IMAGE.png      the value that another image of the folder has

OUT gets a PNG for each image and query, counterfactuals.csv with every attribute before, after and as measured on the
result, and grid.png. With --paste, OUT/pasted/QUERY repeats the folder of the images, each at its own size and depth
and changed only where the query changes it. Under torchrun, processes share the images out.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from dscm import assets, checkpoint
from dscm.cli import arguments as cli
from dscm.cli import options
from dscm.cli import parts
from dscm.folder.writer import SHEET, TABLE, AnswerWriter, Batch
from dscm.cli.batch import AUTO, batch_size, choose_batch
from dscm.data.images import UnreadableImage, find_images
from dscm.data.given import read_given
from dscm.data.mammogram import Framing
from dscm.data.scaling import to_signed
from dscm.data.sets import read_file
from dscm.errors import InputError, exit_on_input_error
from dscm.causal.graph import Graph
from dscm.causal.graph_file import get_graph
from dscm.diffusion.guidance import Weights
from dscm.diffusion.mechanism import DiffusionMechanism
from dscm.causal.mechanisms import Noise
from dscm.evaluation.metrics import observe
from dscm.folder.saved_noise import SavedNoise, write_noise
from dscm.folder.saved_noise import describe as describe_noise
from dscm.oracle import Oracle
from dscm.folder.prefetch import ahead
from dscm.machine import gather, leave, main_process_first, set_up_processes
from dscm.folder.queries import Query, parse_query
from dscm.folder.samples import write_samples
from dscm.diffusion.sampling import intervening
from dscm.causal.scm import SCM


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="?", type=Path, metavar="IMAGES",
                        help="a folder of PNG, JPEG or BMP images (default: bundled ones)")  # fmt: skip
    parser.add_argument(
        "--do", action="append", default=[], metavar="NAME=VALUE[,…]", help="a query; may be repeated (see above)"
    )
    parser.add_argument("--sample", type=cli.number(int, 1), metavar="N",
                        help="draw N images from the model instead, under the --do if there is one")  # fmt: skip
    parser.add_argument("--effect", choices=["total", "direct", "indirect"], nargs="+", default=["total"],
                        help="along which paths a query acts: all; only from what it sets straight to the image; only "
                        "through what that causes (default: total)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("out"), help="the folder to write (default: out)")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="CKPT", help="of the image's mechanism (default: the bundled semantic one)"
    )
    parts.add_parts_arguments(parser)
    parser.add_argument("--guidance", type=options.weights, metavar="ω", help="one weight, or one for each group of "
                        "parents, as thickness=3,others=1 or, for what is intervened on, do=3,others=1 "
                        "(default: 1.5)")  # fmt: skip
    parser.add_argument("--batch", type=batch_size, default=64, help="images at a time; auto: what fits (default: 64)")
    parser.add_argument("--paste", action="store_true",
                        help="also blend what changed into the images themselves, in OUT/pasted")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that has content")
    parser.add_argument("--save-noise", type=Path, metavar="FILE", help="keep what was abducted, for later queries")
    parser.add_argument(
        "--load-noise", type=Path, metavar="FILE", help="what an earlier run abducted from the images, in its batches"
    )
    options.add_sampling_arguments(parser)
    options.add_baseline_arguments(parser)
    options.add_abduction_arguments(parser)
    cli.add_machine_arguments(parser)
    return parser.parse_args()


@torch.no_grad()
def main() -> int:
    """Answer every query for every image; returns the exit code."""
    args = parse_arguments()
    device, rank, world = set_up_processes(args.device, args.threads)
    alone = [name for name in ("sample", "save_noise", "load_noise") if getattr(args, name)]
    if world > 1 and alone:
        raise InputError(f"--{alone[0].replace('_', '-')}: takes one process, without torchrun")
    scm, graph, framing, oracle = set_up_model(args, device)
    mechanism = scm.mechanisms["image"]
    if args.sample:
        args.batch = choose_batch(args.batch, scm, None, rank, world)
        return sample(args, scm, graph, device)
    if not args.do:
        raise InputError("nothing is asked: give a query with --do, or --sample")
    args.images = args.images or assets.SAMPLES.get(graph.data_set)
    if args.images is None:
        raise InputError(f"no images of {graph.name} are bundled: name the folder of yours")

    paths = find_images(args.images)
    table = args.images / "attributes.csv"
    names = [path.as_posix() for path in paths]
    given = read_given(table, names, graph.attributes) if table.exists() else None
    reader = Reader(args.images, paths, given, graph, mechanism.shape, framing, oracle, device)
    queries = [parse_query(text, graph, args.images, names, reader.look_up) for text in args.do]
    for query in queries:  # refuses what cannot be asked before anything is written
        scm.check_upstream(query.changes, "image")
        if given:
            query.resolve(given, names)
    with main_process_first(rank, world):
        if rank == 0:
            cli.check_output(args.out, args.overwrite)
    if args.save_noise and args.save_noise.exists() and (args.save_noise.is_dir() or not args.overwrite):
        raise InputError(f"--save-noise {args.save_noise}: exists; name another file, or replace it with --overwrite")
    own = {name: True for name in ("no_pixel_noise", "sample_code") if getattr(args, name)}
    about = describe_noise(args.checkpoint, names, getattr(mechanism, "sampling", None), own)
    saved = SavedNoise(args.load_noise, about) if args.load_noise else None
    first = next((batch.obs for _, batch in reader.batches(1)), None) if args.batch == AUTO else None
    args.batch = saved.batch if saved else choose_batch(args.batch, scm, first, rank, world)
    if saved:
        saved.check(batch.obs for _, batch in reader.batches(args.batch))

    how = f", guidance {args.guidance}" if isinstance(mechanism, DiffusionMechanism) else ""
    title = f"{args.checkpoint.stem}{how}. Under each counterfactual what it changed in the"
    title += " composition: red is brighter, blue darker."
    unsolved = 0.0
    with ExitStack() as files:
        keep = files.enter_context(write_noise(args.save_noise, about, args.batch)) if args.save_noise else None
        writer = AnswerWriter(args.out, args.images, paths, graph, oracle, framing if args.paste else None, title,
                              rank, world)  # fmt: skip
        files.enter_context(writer)
        bar = files.enter_context(tqdm(total=len(paths), unit="image", desc="counterfactuals", disable=rank > 0))
        files.enter_context(options.alignment_bar(mechanism, rank > 0))
        for count, (index, batch) in enumerate(reader.batches(args.batch, rank, world)):
            generator = cli.seed_batch(args.seed, index * args.batch, device)
            noise = saved.read(count, device) if saved else scm.abduct(batch.obs, generator)
            if keep:
                keep(batch.obs, noise)
            unsolved = max([unsolved, *getattr(noise["image"], "unsolved", torch.empty(0)).tolist()])
            writer.add(index, batch, scm.predict(noise)["image"], answer(scm, batch, noise, queries, args.effect))
            bar.update(min(world * args.batch, len(paths) - bar.n))
    return finish(args, graph, reader, unsolved, rank, world)


def set_up_model(args: argparse.Namespace, device: torch.device) -> tuple[SCM, Graph, Framing, Oracle]:
    """Restore the parts that the command line means, told how to abduct and predict.

    Raises:
        InputError: they, or the options, do not go together.
    """
    args.checkpoint = args.checkpoint or parts.choose_checkpoints(args, ["semantic", "spatial"])[0]
    mechanism, content = checkpoint.restore(args.checkpoint, "image", device)
    graph, framing = get_graph(content["graph"]), Framing.of(content.get("settings", {}))
    parts.choose_parts(args, graph)
    oracle = parts.restore_oracle(graph, args.oracle, device)
    learned = parts.restore_attributes(graph, args.attributes, device)
    options.check_own_options(args, [mechanism])
    options.complete_sampling(args, mechanism)
    args.guidance = args.guidance or Weights(1.5)
    options.check_weights([args.guidance], graph)
    options.check_null_token(args.checkpoint, mechanism, content, [args.guidance], [args.abduction])
    options.speed_up(args, [mechanism], device)
    options.configure(mechanism, args, args.guidance, args.abduction, args.cta_lr)
    scm = graph.scm(mechanism, learned).to(device)
    return scm, graph, framing, oracle


def answer(
    scm: SCM, batch: Batch, noise: Mapping[str, Noise], queries: Sequence[Query], effects: Sequence[str]
) -> dict[str, dict[str, Tensor]]:
    """Answer every query about a batch, along each of the paths asked for; every variable, by the query's name."""
    answers = {}
    for query in queries:
        asked = query.resolve(batch.obs, batch.names)
        for effect in effects:
            do = scm.along(batch.obs, noise, asked, effect, "image")
            with intervening(scm.mechanisms["image"], do, batch.obs):
                answers[name_effect(query, effect)] = scm.predict(noise, do)
    return answers


def sample(args: argparse.Namespace, scm: SCM, graph: Graph, device: torch.device) -> int:
    """Draw images from the model; returns the exit code."""
    if args.images or len(args.do) > 1:
        raise InputError("--sample: takes no images, and at most one --do")
    query = parse_query(args.do[0], graph, Path(), [], lambda image, name: 0.0) if args.do else None
    if query and query.constants.keys() != query.changes.keys():
        raise InputError(f"--do {args.do[0]}: with --sample nothing is observed that a value could depend on")
    cli.check_output(args.out, args.overwrite)
    generator = torch.Generator(device).manual_seed(args.seed)
    write_samples(args.out, scm, graph, args.sample, query.constants if query else {}, args.batch, generator)
    return 0


def name_effect(query: Query, effect: str) -> str:
    """Name a query and, unless it acts along all paths, its effect."""
    return query.text if effect == "total" else f"{query.text}__{effect}"


@dataclass(frozen=True)
class Reader:
    """Read a folder of images a batch at a time, with their attributes.

    Args:
        folder: of the images.
        paths: of all images, relative to it.
        given: their attributes, each (N,); None reads them off the images.
        graph: the causal graph.
        shape: of an image as the model takes it, (C, H, W).
        framing: how the model's mammograms were brought to a square.
        oracle: predicts what is not measured.
        device: where batches go.
        unreadable: gathers the images that cannot be read, and why.
    """

    folder: Path
    paths: list[Path]
    given: Mapping[str, Tensor] | None
    graph: Graph
    shape: tuple[int, int, int]
    framing: Framing
    oracle: Oracle
    device: torch.device
    unreadable: dict[Path, str] = field(default_factory=dict)

    def batches(self, size: int, rank: int = 0, world: int = 1) -> Iterator[tuple[int, Batch]]:
        """Yield the images that can be read, ``size`` files at a time, and the number of each such batch.

        Files are read in the background while the batch before them is in use.

        Args:
            size: files in a batch.
            rank, world: this process, which gets every ``world``-th batch, and how many there are.
        """
        for index, kept, levels in ahead(self._read_batches(size, rank, world)):
            x = to_signed(levels.to(self.device, non_blocking=True))
            given = self.given and {name: value[kept].to(self.device) for name, value in self.given.items()}
            known = given or observe(x, self.graph, self.oracle)
            yield index, Batch([self.paths[i] for i in kept], {**known, "image": x})

    def _read_batches(self, size: int, rank: int, world: int) -> Iterator[tuple[int, list[int], Tensor]]:
        """Yield the number of each batch, the places of its images, and their pixels, uint8, within a GPU's reach."""
        for start in range(rank * size, len(self.paths), world * size):
            kept, images = [], []
            for i in range(start, min(start + size, len(self.paths))):
                try:
                    images.append(self._read(self.paths[i]))
                    kept.append(i)
                except UnreadableImage as error:
                    self.unreadable[self.paths[i]] = str(error)
            if kept:
                levels = torch.stack(images)
                yield start // size, kept, levels.pin_memory() if self.device.type == "cuda" else levels

    def look_up(self, name: str, attribute: str) -> float:
        """Return an attribute of one image.

        Raises:
            InputError: the image cannot be read.
        """
        if self.given:
            return self.given[attribute][self.paths.index(Path(name))].item()
        try:
            x = to_signed(self._read(Path(name))[None]).to(self.device)
        except UnreadableImage as error:
            raise InputError(f"{self.folder / name}: {error}") from error
        return observe(x, self.graph, self.oracle)[attribute].item()

    def _read(self, path: Path) -> Tensor:
        """Read one image, uint8 (C, H, W)."""
        return read_file(self.graph, self.folder / path, self.shape, self.framing)


def finish(args: argparse.Namespace, graph: Graph, reader: Reader, unsolved: float, rank: int, world: int) -> int:
    """Put together what the processes found, and let the first say it; returns the exit code."""
    shares = gather({rank: (reader.unreadable, unsolved)}, world)
    leave(world)
    if rank > 0:
        return 0
    skipped = {path: why for share, _ in shares for path, why in share.items()}
    unsolved = max(share for _, share in shares)
    if unsolved:
        print(f"inversion: no implicit step moved a pixel by more than {unsolved:.1e} (RMS, on [-1, 1]) in the end")
    in_order = {path: skipped[path] for path in reader.paths if path in skipped}
    return report(args, graph, len(reader.paths), in_order, reader.given is not None)


def report(args: argparse.Namespace, graph: Graph, total: int, unreadable: dict[Path, str], given: bool) -> int:
    """Say what was done and what was skipped; returns the exit code: 1 if an image could not be read."""
    guessed = ", ".join(variable.name for variable in graph.predicted)
    sources = [f"measured on the images: {', '.join(graph.measured)}"] * bool(graph.measured)
    sources += [f"predicted by the oracle: {guessed}"] * bool(guessed)
    print(f"factual attributes: {'from attributes.csv' if given else '; '.join(sources)}")
    read = total - len(unreadable)
    print(f"{read} images, {len(args.do)} queries → {args.out}/{f'{SHEET}, ' if read else ''}{TABLE}")
    for path, reason in unreadable.items():
        print(f"skipped {path}: {reason}", file=sys.stderr)
    return 1 if unreadable else 0


if __name__ == "__main__":
    with exit_on_input_error():
        sys.exit(main())
