"""The in-memory source: each image once an epoch, an order of its own in each, the same wherever one starts."""

import torch

from isograd.data.datasets import DATASETS, open_source
from isograd.data.transforms import Augmentation, Normalize
from tests.runs import source


def test_an_epoch_holds_every_image_once_and_keeps_the_last_batch() -> None:
    batches = list(source(84, 8).train(1))
    assert [batch.size for batch in batches] == [8] * 10 + [4]
    assert sorted(torch.cat([batch.index for batch in batches]).tolist()) == list(range(84))


def test_epochs_differ_and_repeat_exactly() -> None:
    first, again, second = (list(source().train(epoch)) for epoch in (1, 1, 2))
    assert all(torch.equal(one.inputs["image"], other.inputs["image"]) for one, other in zip(first, again, strict=True))
    assert not torch.equal(first[0].index, second[0].index)


def test_starting_in_the_middle_gives_the_tail() -> None:
    whole, tail = list(source().train(3)), list(source().train(3, first=7))
    assert [batch.number for batch in tail] == [7, 8, 9, 10]
    assert all(
        torch.equal(one.inputs["image"], other.inputs["image"]) for one, other in zip(whole[7:], tail, strict=True)
    )


def test_a_crop_is_a_window_of_the_padded_image() -> None:
    images = torch.randint(0, 256, (16, 3, 8, 8), dtype=torch.uint8)
    cropped = Augmentation(padding=2, padding_mode="reflect")(images, torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode="reflect")
    windows = padded.unfold(2, 8, 1).unfold(3, 8, 1).flatten(2, 3)  # (B, C, 25, H, W)
    assert all((windows[row] == cropped[row][:, None]).all(dim=(0, 2, 3)).any() for row in range(16))
    assert len({tuple(image.flatten().tolist()) for image in cropped - images}) > 1


def test_flips_mirror_about_half_of_the_images() -> None:
    images = torch.randint(0, 256, (400, 1, 4, 4), dtype=torch.uint8)
    flipped = Augmentation(flip=True)(images, torch.Generator().manual_seed(0))
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert (mirrored | kept).all() and 140 < int(mirrored.sum()) < 260


def test_normalisation_is_undone_to_the_unit_range() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    normalize = Normalize([0.4914], [0.247])
    torch.testing.assert_close(normalize.restore(pixels), pixels / 255, rtol=0, atol=1e-7)
    exact = normalize.double().restore(pixels)
    assert exact.dtype == torch.float64 and exact.min() >= 0 and exact.max() <= 1


def test_digits_are_real_and_split_once() -> None:
    digits = open_source(DATASETS.get("digits"), seed=0)
    assert (digits.num_train, digits.num_test) == (1437, 360)
    targets = torch.cat([batch.targets["label"] for batch in digits.test()])
    assert torch.bincount(targets, minlength=10).min() > 20
