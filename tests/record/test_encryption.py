"""Sealing: round trips, and every way in which sealed bytes must not open."""

import itertools
import os
import struct
from collections.abc import Iterator

import pytest
from django.core.exceptions import FieldError
from django.db import connection, models, transaction
from django_tenants.utils import tenant_context
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tenants.encryption import data_keys, master, sealing
from tenants.encryption.errors import MasterKeyMissing, Tampered, TenantUnnamed, Truncated, WrongKey
from tenants.encryption.fields import EncryptedJSONField, EncryptedTextField, Sealed
from tenants.encryption.models import DataKey
from tenants.encryption.sealing import CHUNK_BYTES, HEADER, seal, seal_stream, unseal, unseal_stream
from tenants.models import Plan, Tenant
from tests.record.world import World

SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 7]


@pytest.fixture(autouse=True)
def fresh_keys(world: World) -> Iterator[None]:
    DataKey.objects.all().delete()
    data_keys.cache.clear()
    yield
    data_keys.cache.clear()


def pieces(value: bytes, size: int) -> Iterator[bytes]:
    return (value[begin : begin + size] for begin in range(0, len(value), size))


def seal_file(plaintext: bytes, tenant: str = "alpha") -> bytes:
    return b"".join(seal_stream(tenant, [plaintext], purpose="recording"))


def unseal_file(sealed: bytes, tenant: str = "alpha", purpose: str = "recording") -> bytes:
    return b"".join(unseal_stream(tenant, [sealed], purpose=purpose))


@pytest.mark.parametrize("plaintext", [b"", b"x", "ключ".encode(), os.urandom(100_000)])
def test_what_is_sealed_comes_back(plaintext: bytes) -> None:
    sealed = seal("alpha", plaintext, purpose="p")
    assert unseal("alpha", sealed, purpose="p") == plaintext
    assert len(sealed) == len(plaintext) + 41
    assert sealed != seal("alpha", plaintext, purpose="p"), "the same text twice must not look the same"


@pytest.mark.parametrize("position", [0, 4, 5, 8, 9, 12, 13, 24, 25, -17, -1])
def test_one_changed_bit_anywhere_is_noticed(position: int) -> None:
    sealed = bytearray(seal("alpha", b"a secret of some length", purpose="p"))
    sealed[position] ^= 1
    with pytest.raises((Tampered, WrongKey)):
        unseal("alpha", bytes(sealed), purpose="p")


@pytest.mark.parametrize("length", [0, 1, 12, 13, 20, 25, 40])
def test_what_is_cut_does_not_open(length: int) -> None:
    with pytest.raises(Tampered):
        unseal("alpha", seal("alpha", b"", purpose="p")[:length], purpose="p")


def test_another_purpose_or_tenant_does_not_open() -> None:
    sealed = seal("alpha", b"of alpha", purpose="p")
    seal("beta", b"beta has a key of the same version", purpose="p")
    with pytest.raises(Tampered):
        unseal("alpha", sealed, purpose="q")
    with pytest.raises(WrongKey):
        unseal("beta", sealed, purpose="p")
    with pytest.raises(WrongKey, match="has no data key of version 1"):
        unseal("gamma", sealed, purpose="p")


def test_a_value_is_no_stream() -> None:
    with pytest.raises(Tampered):
        unseal_file(seal("alpha", b"value", purpose="recording"))
    with pytest.raises(Tampered):
        unseal("alpha", seal_file(b"file"), purpose="recording")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("piece_bytes", [7, CHUNK_BYTES, 10 * CHUNK_BYTES])
def test_a_file_comes_back_whatever_the_pieces(size: int, piece_bytes: int) -> None:
    if piece_bytes == 7 and size > CHUNK_BYTES + 1:
        piece_bytes = 997
    plaintext = os.urandom(size)
    sealed = b"".join(seal_stream("alpha", pieces(plaintext, piece_bytes), purpose="recording"))
    assert b"".join(unseal_stream("alpha", pieces(sealed, piece_bytes), purpose="recording")) == plaintext


def test_a_file_is_never_whole_in_memory() -> None:
    endless = (bytes(CHUNK_BYTES) for _ in itertools.count())
    sealed = seal_stream("alpha", endless, purpose="recording")
    opened = unseal_stream("alpha", sealed, purpose="recording")
    assert [len(piece) for piece in itertools.islice(opened, 5)] == [CHUNK_BYTES] * 5


def test_a_file_that_ends_early_is_noticed_wherever_it_is_cut() -> None:
    sealed = seal_file(os.urandom(2 * CHUNK_BYTES + 100))
    begin = HEADER.size + 36
    chunk = CHUNK_BYTES + 16
    for length in (begin, begin + 1, begin + chunk, begin + 2 * chunk, len(sealed) - 1, begin - 1, 13):
        with pytest.raises(Tampered):
            unseal_file(sealed[:length])
    for length in (begin + chunk, begin + 2 * chunk, begin, begin + 5, begin - 1):
        with pytest.raises(Truncated):
            unseal_file(sealed[:length])


def test_chunks_that_are_moved_left_out_or_added_are_noticed() -> None:
    sealed = seal_file(os.urandom(3 * CHUNK_BYTES))
    begin, chunk = HEADER.size + 36, CHUNK_BYTES + 16
    head, one, two, three = sealed[:begin], *(sealed[begin + n * chunk : begin + (n + 1) * chunk] for n in range(3))
    other = seal_file(os.urandom(3 * CHUNK_BYTES))
    for forged in (
        head + two + one + three,
        head + one + three,
        head + one + two + two + three,
        sealed + three,
        sealed + b"x",
        head + one + other[begin + chunk : begin + 2 * chunk] + three,
        head[:13] + struct.pack(">I", 2 * CHUNK_BYTES) + head[17:] + one + two + three,
        head[:13] + struct.pack(">I", 0) + head[17:] + one,
        head[:13] + struct.pack(">I", 2**31) + head[17:] + one,
    ):
        with pytest.raises(Tampered):
            unseal_file(forged)
    with pytest.raises(Tampered):
        unseal_file(sealed, purpose="export")
    seal("beta", b"", purpose="p")
    with pytest.raises(WrongKey):
        unseal_file(sealed, tenant="beta")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plaintext=st.binary(max_size=300), position=st.integers(0, 10_000), bit=st.integers(0, 7), cut=st.integers(0, 400)
)
def test_no_change_to_a_sealed_value_opens(plaintext: bytes, position: int, bit: int, cut: int) -> None:
    sealed = seal("alpha", plaintext, purpose="p")
    changed = bytearray(sealed)
    changed[position % len(sealed)] ^= 1 << bit
    for forged in (bytes(changed), sealed[:cut]):
        if forged != sealed:
            with pytest.raises((Tampered, WrongKey)):
                unseal("alpha", forged, purpose="p")


def test_each_tenant_has_its_own_key_which_is_made_once() -> None:
    for _ in range(3):
        seal("alpha", b"", purpose="p")
        seal("beta", b"", purpose="p")
    assert list(DataKey.objects.values_list("tenant", "version", "state")) == [
        ("alpha", 1, "active"), ("beta", 1, "active"),
    ]  # fmt: skip
    assert data_keys.active_key("alpha").key != data_keys.active_key("beta").key


def test_a_key_whose_making_is_rolled_back_seals_nothing_afterwards() -> None:
    with transaction.atomic():
        lost = seal("alpha", b"", purpose="p")
        assert unseal("alpha", lost, purpose="p") == b""
        transaction.set_rollback(True)
    assert not DataKey.objects.filter(tenant="alpha").exists()
    sealed = seal("alpha", b"kept", purpose="p")
    data_keys.cache.clear()
    assert unseal("alpha", sealed, purpose="p") == b"kept"
    with pytest.raises(WrongKey):
        unseal("alpha", lost, purpose="p")


def test_a_wrong_master_key_is_named_and_nothing_is_keyed_anew(settings) -> None:
    sealed = seal("alpha", b"kept", purpose="p")
    right = settings.MASTER_KEY
    settings.MASTER_KEY = master._text(master.new_key())
    data_keys.cache.clear()
    with pytest.raises(MasterKeyMissing, match="AVB_MASTER_KEY_PREVIOUS"):
        unseal("alpha", sealed, purpose="p")
    with pytest.raises(MasterKeyMissing):
        seal("alpha", b"more", purpose="p")
    settings.MASTER_KEY = ""
    with pytest.raises(MasterKeyMissing, match="Set AVB_MASTER_KEY"):
        seal("new", b"more", purpose="p")
    assert DataKey.objects.count() == 1
    settings.MASTER_KEY = right
    assert unseal("alpha", sealed, purpose="p") == b"kept"


def test_a_data_key_does_not_open_in_another_tenants_row() -> None:
    seal("alpha", b"", purpose="p")
    seal("beta", b"", purpose="p")
    stolen = DataKey.objects.get(tenant="beta").wrapped
    DataKey.objects.filter(tenant="alpha").update(wrapped=stolen)
    data_keys.cache.clear()
    with pytest.raises(WrongKey):
        seal("alpha", b"", purpose="p")


def test_opened_keys_are_bounded_in_number_and_time(settings, monkeypatch) -> None:
    cache = data_keys.KeyCache()
    settings.DATA_KEY_CACHE_KEYS, settings.DATA_KEY_CACHE_S = 2, 10
    now = 1000.0
    monkeypatch.setattr(data_keys.time, "monotonic", lambda: now)
    for version in (1, 2, 3):
        cache.keep("alpha", version, data_keys.OpenKey(version, bytes(32)))
    assert len(cache) == 2
    assert cache.find("alpha", 1) is None
    now = 1009.9
    assert cache.find("alpha", 3) is not None
    now = 1010.0
    assert cache.find("alpha", 3) is None


def test_no_key_shows_in_a_text() -> None:
    key = data_keys.OpenKey(1, b"k" * 32)
    local = master.LocalKey(b"m" * 32)
    assert "kkk" not in repr(key)
    assert "mmm" not in repr(local)
    assert "secret" not in repr(Sealed(b"secret", "alpha"))


# --- fields ---


class Diary(models.Model):
    text = EncryptedTextField(default="")
    extra = EncryptedJSONField(null=True)

    class Meta:
        app_label = "encryption"
        managed = False


class Login(models.Model):
    tenant = models.ForeignKey(Tenant, models.DO_NOTHING, related_name="+")
    secret = EncryptedTextField(tenant="tenant.schema_name")

    class Meta:
        app_label = "encryption"
        managed = False


@pytest.fixture
def tables(world: World) -> World:
    for schema in ("alpha", "beta", "public"):
        with connection.cursor() as cursor:
            cursor.execute(
                f"CREATE TABLE {schema}.encryption_diary (id bigserial PRIMARY KEY, text bytea NOT NULL, extra bytea)"
            )
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE public.encryption_login (id bigserial PRIMARY KEY, tenant_id bigint, secret bytea NOT NULL)"
        )
    return world


def stored(table: str, column: str) -> bytes:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {table}")  # noqa: S608  (names of this file)
        return bytes(cursor.fetchone()[0])


def test_a_field_is_sealed_by_the_schemas_own_key(tables: World) -> None:
    with tenant_context(tables.alpha.tenant):
        Diary.objects.create(text="dear diary", extra={"mood": ["good", 1]})
        row = Diary.objects.get()
    assert row.text == "dear diary"
    assert row.extra == {"mood": ["good", 1]}
    assert b"dear" not in stored("alpha.encryption_diary", "text")
    assert unseal("alpha", stored("alpha.encryption_diary", "text"), purpose="encryption.diary.text") == b"dear diary"


def test_a_row_that_is_copied_to_another_tenant_or_column_does_not_open(tables: World) -> None:
    with tenant_context(tables.alpha.tenant):
        Diary.objects.create(text="dear diary", extra=None)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO beta.encryption_diary (text) SELECT text FROM alpha.encryption_diary")
        cursor.execute("UPDATE alpha.encryption_diary SET extra = text")
    with tenant_context(tables.beta.tenant), pytest.raises(WrongKey):
        _ = Diary.objects.get().text
    with tenant_context(tables.alpha.tenant), pytest.raises(Tampered):
        _ = Diary.objects.get().extra


def test_fields_save_update_and_stay_as_models_do(tables: World) -> None:
    with tenant_context(tables.alpha.tenant):
        row = Diary.objects.create()
        assert Diary.objects.get().text == ""
        assert stored("alpha.encryption_diary", "text") == b""
        row.text = "one"
        row.save()
        unopened = Diary.objects.get()
        before = stored("alpha.encryption_diary", "text")
        unopened.save()
        assert stored("alpha.encryption_diary", "text") == before, "what was not looked at is written as it was"
        assert unopened.text == "one"
        Diary.objects.update(text="two", extra=[1])
        deferred = Diary.objects.defer("text").get()
        assert (deferred.text, deferred.extra) == ("two", [1])
        Diary.objects.bulk_create([Diary(text="three")])
        assert {entry.text for entry in Diary.objects.all()} == {"two", "three"}
        assert Diary.objects.filter(extra__isnull=True).count() == 1
        with pytest.raises(FieldError, match="sealed"):
            Diary.objects.filter(text="two").exists()
        with pytest.raises(TypeError, match="holds text"):
            Diary.objects.create(text=b"bytes")


def test_in_the_public_schema_the_row_names_the_tenant(tables: World) -> None:
    Login.objects.create(tenant=tables.alpha.tenant, secret="s3cret")
    assert Login.objects.get().secret == "s3cret"
    assert b"s3cret" not in stored("encryption_login", "secret")
    Login.objects.update(tenant=tables.beta.tenant)
    seal("beta", b"", purpose="p")
    with pytest.raises(WrongKey):
        _ = Login.objects.get().secret
    with pytest.raises(TenantUnnamed, match="save the row"):
        Login.objects.update(secret="new")
    with pytest.raises(TenantUnnamed):
        Diary.objects.create(text="whose?")


def test_plans_have_nothing_sealed(world: World) -> None:
    """The walk over sealed fields finds fields by their class."""
    from tenants.encryption.fields import EncryptedField

    assert not any(isinstance(field, EncryptedField) for field in Plan._meta.get_fields())
    assert sealing.sealed_version(seal("alpha", b"", purpose="p")) == 1
