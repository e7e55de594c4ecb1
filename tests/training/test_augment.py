"""Mirrored and moved images."""

import torch

from dscm.training.augment import augment, crop, place_windows


def make_images(n: int) -> torch.Tensor:
    """Random images of two channels, all different."""
    return torch.rand(n, 2, 6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_nothing_is_drawn_where_nothing_changes() -> None:
    generator = torch.Generator().manual_seed(1)
    before, images = generator.get_state(), make_images(3)
    assert torch.equal(augment(images, False, 0, generator), images) and torch.equal(generator.get_state(), before)


def test_half_of_the_images_are_mirrored() -> None:
    images = make_images(200)
    flipped = augment(images, True, 0, torch.Generator().manual_seed(1))
    mirrored = (flipped == images.flip(-1)).flatten(1).all(dim=1)
    assert torch.equal(flipped[~mirrored], images[~mirrored]) and 80 < mirrored.sum() < 120


def test_images_are_moved_by_every_distance_up_to_the_greatest() -> None:
    """As `torch.roll` moves what lies within; what comes in repeats the edge."""
    images = make_images(1).expand(300, -1, -1, -1)
    moved = augment(images, False, 2, torch.Generator().manual_seed(1))
    shifts = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
    inner = (slice(None), slice(None), slice(2, -2), slice(2, -2))
    found = torch.stack([(moved[inner] == images.roll(shift, (2, 3))[inner]).flatten(1).all(dim=1) for shift in shifts])
    assert (found.sum(dim=0) == 1).all() and (found.sum(dim=1) > 2).all()
    down = moved[found[shifts.index((2, 0))]][0]
    assert torch.equal(down[:, :2], images[0, :, :1].expand(-1, 2, -1))


def test_images_that_share_their_draws_change_alike() -> None:
    images = make_images(2).repeat(2, 1, 1, 1)
    changed = augment(images, True, 2, torch.Generator().manual_seed(1), torch.tensor([0, 1, 0, 1]))
    assert torch.equal(changed[:2], changed[2:]) and not torch.equal(changed[:2], images[:2])


def test_a_window_is_cut_where_it_lies() -> None:
    images = make_images(2)
    windows = crop(images, torch.tensor([[0, 3], [2, 1]]), 4, 5)
    assert torch.equal(windows, torch.stack([images[0, :, 0:4, 3:8], images[1, :, 2:6, 1:6]]))


def test_windows_lie_around_what_differs() -> None:
    """In their middle half, or at the edge of the image; anywhere, where nothing does; any such pixel as often."""
    spread = torch.zeros(400, 2, 20, 24)
    spread[:200, 1, 9, 4] = spread[:200, 0, 10, 20] = 0.5
    spread[200:300, 0, 19, 0] = 0.1
    rows, columns = place_windows(spread, 8, torch.Generator().manual_seed(0)).T
    left = columns[:200] <= 4
    assert 70 < left.sum() < 130
    inside = [(9, 4, rows[:200][left], columns[:200][left]), (10, 20, rows[:200][~left], columns[:200][~left])]
    for y, x, row, column in inside:
        assert set((y - row).tolist()) == {2, 3, 4, 5} and set((x - column).tolist()) <= {2, 3, 4, 5}
    assert (rows[200:300] == 12).all() and (columns[200:300] == 0).all()
    assert rows[300:].min() == 0 and rows[300:].max() == 12 and columns[300:].max() == 16
