"""Fisher vectors: against scikit-image's, and what must hold of any."""

import numpy as np
import pytest
from skimage.feature import fisher_vector
from sklearn.mixture import GaussianMixture

from stmn.errors import CheckpointError, DataError
from stmn.idt.codebook import DESCRIPTORS, WIDTH, Codebook, load_codebook
from stmn.idt.fisher import FisherSums
from stmn.idt.fit import choose_gaussians, fit_codebook

K = 4


def make_rows(count: int, seed: int) -> np.ndarray:
    """Descriptors of three kinds of tracks."""
    draws = np.random.default_rng(seed)
    centres = np.random.default_rng(7).random((3, WIDTH))
    return np.clip(centres[draws.integers(3, size=count)] + 0.1 * draws.normal(size=(count, WIDTH)), 0, 2)


@pytest.fixture(scope="module")
def codebook() -> Codebook:
    return fit_codebook(make_rows(1500, seed=0), K, {"about": "a test"})


def encode(codebook: Codebook, *parts: np.ndarray) -> np.ndarray:
    sums = FisherSums(codebook)
    for part in parts:
        sums.add(part)
    return sums.finish()


def test_fisher_vectors_are_those_of_scikit_image(codebook):
    rows = make_rows(300, seed=1)
    ours, start = encode(codebook, rows), 0
    for name, mixture in codebook.mixtures.items():
        size = mixture.centres.size
        peer = GaussianMixture(K, covariance_type="diag")
        peer.weights_, peer.means_ = mixture.weights.astype(float), mixture.centres.astype(float)
        peer.covariances_ = mixture.variances.astype(float)
        peer.precisions_cholesky_ = 1 / np.sqrt(peer.covariances_)
        theirs = fisher_vector(mixture.project(rows[:, DESCRIPTORS[name]]).astype(float), peer)
        # theirs begins with the gradients by the weights, and has those by the deviations with the other sign
        expected = np.concatenate([theirs[K : K + size], -theirs[K + size :]])
        expected = np.sign(expected) * np.sqrt(np.abs(expected))
        np.testing.assert_allclose(ours[start : start + 2 * size], expected / np.linalg.norm(expected), atol=2e-4)
        start += 2 * size
    assert start == codebook.length == len(ours)


def test_each_descriptor_has_half_its_dimensions_and_norm_one(codebook):
    assert [mixture.centres.shape for mixture in codebook.mixtures.values()] == [(K, 48), (K, 54), (K, 48), (K, 48)]
    parts = np.split(encode(codebook, make_rows(50, seed=2)), np.cumsum([2 * K * d for d in (48, 54, 48)]))
    np.testing.assert_allclose([np.linalg.norm(part) for part in parts], 1, rtol=1e-5)


def test_tracks_may_come_in_portions(codebook):
    rows = make_rows(5000, seed=3)
    whole = encode(codebook, rows)
    np.testing.assert_allclose(encode(codebook, rows[:10], rows[10:4321], rows[4321:]), whole, atol=1e-3)


def test_vectors_tell_kinds_of_tracks_apart(codebook):
    first, second = encode(codebook, make_rows(2000, seed=4)), encode(codebook, make_rows(2000, seed=5))
    other = encode(codebook, make_rows(2000, seed=4) * 0.8)
    assert np.linalg.norm(first - second) < 0.8 * np.linalg.norm(first - other)


def test_no_tracks_give_a_zero_vector(codebook):
    assert not encode(codebook).any()
    assert not encode(codebook, np.zeros((0, WIDTH))).any()


def test_one_track_gives_finite_numbers(codebook):
    assert np.isfinite(encode(codebook, make_rows(1, seed=5))).all()
    assert np.isfinite(encode(codebook, np.full((3, WIDTH), 100.0))).all()  # far from every Gaussian


def test_same_seed_gives_the_same_codebook(codebook):
    again = fit_codebook(make_rows(1500, seed=0), K, {})
    for name, mixture in codebook.mixtures.items():
        np.testing.assert_array_equal(mixture.centres, again.mixtures[name].centres)


def test_codebooks_survive_being_saved(codebook, tmp_path):
    codebook.save(tmp_path / "book.safetensors")
    again = load_codebook(tmp_path / "book.safetensors")
    rows = make_rows(20, seed=6)
    np.testing.assert_array_equal(encode(again, rows), encode(codebook, rows))
    assert again.about == {"about": "a test"}


def test_other_files_are_no_codebooks(tmp_path):
    (tmp_path / "junk.safetensors").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_codebook(tmp_path / "junk.safetensors")
    with pytest.raises(CheckpointError, match="no such file"):
        load_codebook(tmp_path / "none.safetensors")


def test_too_few_tracks_are_refused_with_the_number():
    with pytest.raises(DataError, match="100 trajectories in all training videos; 4 Gaussians need 396"):
        fit_codebook(make_rows(100, seed=0), K, {})


@pytest.mark.parametrize(("videos", "gaussians"), [(1, 8), (12, 16), (54, 64), (80, 64), (300, 256), (9537, 256)])
def test_gaussians_follow_the_number_of_videos(videos, gaussians):
    assert choose_gaussians(videos) == gaussians
