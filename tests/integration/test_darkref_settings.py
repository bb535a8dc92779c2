"""What settings may say in a dark's header, and which reference it is compared with."""

import numpy as np
import pytest
from astropy.io import fits

from services.darkref.handler import handle
from shared.errors import EnvironmentFault, PermanentError
from shared.products.reference import PREVIOUS_ROLE
from shared.runtime.handler import StageContext
from shared.settings.stage import S3Settings, StageSettings
from shared.store.local import LocalStore
from support.ceph_server import Ceph
from support.configurations import configuration
from support.darkref_building import built, drawn_set, with_settings

DARK = "nrcalong_sub64p_dark.fits"
KEY = configuration()


@pytest.fixture
def context(tmp_path):
    store = LocalStore(tmp_path / "store")
    yield StageContext(store, StageSettings(store=tmp_path / "store", verify=False))
    store.close()


def path_of(tmp_path, manifest, name=DARK):
    return tmp_path / "store" / manifest.object(name).key


def history(path):
    return " ".join(str(line) for line in fits.getheader(path)["HISTORY"])


# PEDIGREE, USEAFTER


@pytest.mark.parametrize(
    ("simulated", "given", "said"),
    [
        (False, None, "INFLIGHT 2022-04-11 2022-04-11"),
        (False, "INFLIGHT", "INFLIGHT 2022-04-11 2022-04-11"),
        (False, "GROUND", "GROUND"),
        (True, None, "SIMULATION"),
        (True, "SIMULATION", "SIMULATION"),
        (True, "MODEL", "MODEL"),
        (True, "DUMMY", "DUMMY"),
    ],
)
def test_pedigree_is_the_datas_or_the_settings(tmp_path, context, simulated, given, said):
    ready = drawn_set(context, tmp_path, KEY, 1, 3, simulated=simulated)
    manifest, results = built(with_settings(context, pedigree=given), ready)
    assert fits.getval(path_of(tmp_path, manifest), "PEDIGREE") == results.pedigree == said
    assert results.simulated is simulated


@pytest.mark.parametrize("given", ["INFLIGHT", "GROUND"])
@pytest.mark.parametrize("mode", ["flight", "reference"])
def test_no_setting_passes_simulated_exposures_off_as_measured(tmp_path, context, given, mode):
    # Given a set of simulated exposures
    ready = drawn_set(context, tmp_path, KEY, 1, 3, simulated=True)
    # When its dark is to be called measured, then it is refused by name, before any work
    with pytest.raises(PermanentError) as caught:
        handle(ready, with_settings(context, pedigree=given, mode=mode))
    assert (caught.value.keyword, caught.value.setting) == ("PEDIGREE", "--pedigree")
    assert given in str(caught.value)
    assert not list(context.store.list("darkref/"))


def test_useafter_is_the_settings_else_the_start_of_the_set(tmp_path, context):
    ready = drawn_set(context, tmp_path, KEY, 1, 3)
    usual, _ = built(context, ready)
    chosen, _ = built(with_settings(context, useafter="2022-01-01T00:00:00"), ready)
    assert fits.getval(path_of(tmp_path, usual), "USEAFTER") == "2022-04-11T06:00:00"
    assert fits.getval(path_of(tmp_path, chosen), "USEAFTER") == "2022-01-01T00:00:00"
    # and what was made without the setting is another product, whose key does not hold the setting
    assert usual.path != chosen.path
    assert "useafter" not in usual.parameters


# A reference that was given


@pytest.fixture
def given(tmp_path, context):
    """A dark of other exposures, as somebody has it on disk; 7 of its pixels are hot."""
    manifest, _ = built(context, drawn_set(context, tmp_path, KEY, 5, 4))
    target = tmp_path / "theirs.fits"
    target.write_bytes(path_of(tmp_path, manifest).read_bytes())
    with fits.open(target, mode="update") as hdus:
        hdus["DQ"].data[10, 10:17] |= 1 << 11
    return target


def test_a_reference_that_was_given_is_compared_with_in_place_of_the_stores(tmp_path, context, given):
    # Given a set of which the store holds a reference too, of part of it
    ready = drawn_set(context, tmp_path, KEY, 8, 5)
    stored, _ = built(context, ready)
    # When another one is given
    asked = with_settings(context, previous_references=[str(given)])
    manifest, results = built(asked, ready)
    # Then the difference is the one from it
    assert results.replaces == given.as_uri()
    assert results.differences[0].startswith("DIFFERENCES: replaces theirs.fits (given, sha256 ")
    assert any("0 pixels newly hot, 7 no longer hot" in output for output in results.differences)
    output = history(path_of(tmp_path, manifest))
    assert "replaces theirs.fits" in output
    assert "this is no change of noise" not in output
    # and it is part of what the product was made from
    assert [each.uri for each in manifest.inputs if each.role == PREVIOUS_ROLE] == [given.as_uri()]
    assert manifest.path != stored.path
    # so that the same one finds it again, and another one under its name does not
    assert built(asked, ready)[0].path == manifest.path
    fits.setval(given, "AUTHOR", value="somebody else")
    assert built(asked, ready)[0].path != manifest.path


def test_each_set_takes_the_given_reference_that_is_its_own(tmp_path, context, given):
    other = tmp_path / "other.fits"
    other.write_bytes(given.read_bytes())
    fits.setval(other, "DETECTOR", value="NRCA1")
    ready = drawn_set(context, tmp_path, KEY, 8, 3)
    _, results = built(with_settings(context, previous_references=[str(other), str(given)]), ready)
    assert results.replaces == given.as_uri()


def test_a_given_reference_without_a_word_on_its_err_is_compared_and_says_so(tmp_path, context, given):
    fits.setval(given, "BUNIT", value="DN", comment="", extname="ERR")
    ready = drawn_set(context, tmp_path, KEY, 8, 3)
    _, results = built(with_settings(context, previous_references=[str(given)]), ready)
    assert "The earlier ERR is of unknown meaning" in results.differences[-1]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("DETECTOR", "NRCBLONG"),
        ("SUBARRAY", "SUB160"),
        ("READPATT", "DEEP8"),
        ("NFRAMES", 8),
        ("GROUPGAP", 12),
        ("NOUTPUTS", 4),
        ("SUBSTRT1", 1),
    ],
)
def test_a_given_reference_of_something_else_is_refused_by_name(tmp_path, context, given, keyword, value):
    # Given a reference that is not of the set's configuration
    fits.setval(given, keyword, value=value)
    ready = drawn_set(context, tmp_path, KEY, 8, 3)
    # Then it is refused: the file, the keyword, both values and the setting are named
    with pytest.raises(PermanentError) as raised:
        handle(ready, with_settings(context, previous_references=[str(given)]))
    field = getattr(KEY, keyword.lower())
    for said in ("theirs.fits", f"{keyword} = {value!r}", repr(field), "DARKS_PREVIOUS_REFERENCES"):
        assert said in str(raised.value)
    assert not list(context.store.list(f"darkref/{KEY.slug}/{ready.content.set_id}"))


def test_what_has_other_pixels_is_refused_by_name(tmp_path, context, given):
    with fits.open(given) as hdus:
        hdus["SCI"].data = hdus["SCI"].data[:, :32]
        hdus.writeto(tmp_path / "half.fits")
    ready = drawn_set(context, tmp_path, KEY, 8, 3)
    with pytest.raises(PermanentError) as raised:
        handle(ready, with_settings(context, previous_references=[str(tmp_path / "half.fits")]))
    assert raised.value.where.endswith(str(tmp_path / "half.fits"))
    assert str((32, 64)) in str(raised.value)


@pytest.mark.parametrize(
    ("spoil", "keyword"),
    [
        (lambda path: path.unlink(), ""),
        (lambda path: path.write_bytes(b"no FITS at all"), ""),
        (lambda path: path.write_bytes(path.read_bytes()[:4000]), ""),
        (lambda path: fits.setval(path, "REFTYPE", value="FLAT"), "REFTYPE"),
        (lambda path: fits.delval(path, "REFTYPE"), "REFTYPE"),
        (lambda path: fits.HDUList([fits.PrimaryHDU(np.zeros((2, 2)))]).writeto(path, overwrite=True), ""),
    ],
    ids=["gone", "garbage", "cut", "flat", "nameless", "image"],
)
def test_what_cannot_be_compared_with_is_the_settings_fault(tmp_path, context, given, spoil, keyword):
    ready = drawn_set(context, tmp_path, KEY, 8, 3)
    spoil(given)
    with pytest.raises(EnvironmentFault) as raised:
        handle(ready, with_settings(context, previous_references=[str(given)]))
    assert raised.value.where.endswith("theirs.fits")
    assert (raised.value.keyword, raised.value.setting) == (keyword, "--compare-with")


@pytest.mark.xdist_group("ceph")
def test_a_given_reference_may_lie_in_a_bucket(ceph: Ceph, tmp_path, context, given):
    # Given the reference in a bucket that no exposure may be read from
    bucket = ceph.new_bucket()
    ceph.client().put_object(Bucket=bucket, Key="darks/theirs.fits", Body=given.read_bytes())
    ready = drawn_set(context, tmp_path, KEY, 8, 3)
    reached = with_settings(
        context,
        s3=S3Settings(endpoint=ceph.endpoint),
        previous_references=[f"s3://{bucket}/darks/theirs.fits"],
    )
    # When
    manifest, results = built(reached, ready)
    # Then it is the same product as with the file, and nothing that was fetched is left
    assert results.replaces == f"s3://{bucket}/darks/theirs.fits"
    assert built(with_settings(context, previous_references=[str(given)]), ready)[0].path == manifest.path
    assert not list((tmp_path / "store").rglob("source-*"))
    # and one that is not there is named
    missing = with_settings(reached, previous_references=[f"s3://{bucket}/darks/none.fits"])
    with pytest.raises(EnvironmentFault) as raised:
        handle(ready, missing)
    assert raised.value.where.endswith("none.fits")
    assert raised.value.setting == "--compare-with"
