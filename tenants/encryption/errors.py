"""What can go wrong with keys and sealed bytes. No message holds a key or what was sealed."""


class EncryptionError(Exception):
    """Something cannot be sealed or unsealed; the message says what is wrong and what would be right."""

    reason = "error"
    is_counted = False


class MasterKeyMissing(EncryptionError):
    """No master key is configured, or not the one that a data key is wrapped by."""

    reason = "master_key_missing"


class MasterKeyInvalid(EncryptionError):
    """What is configured as a master key is none: malformed, of a wrong length, or readable by others."""

    reason = "master_key_invalid"


class KeySourceUnavailable(EncryptionError):
    """Vault or AWS, where the master key is, does not answer or refuses. Trying again may help."""

    reason = "key_source_unavailable"


class WrongKey(EncryptionError):
    """Sealed by a data key that this tenant does not have, or a data key that its master key does not open."""

    reason = "wrong_key"


class Tampered(EncryptionError):
    """These bytes are not what was sealed for this tenant and purpose: changed, cut, reordered, or another's."""

    reason = "tampered"


class Truncated(Tampered):
    """A sealed stream that ends before its last chunk."""

    reason = "truncated"


class TenantUnnamed(EncryptionError):
    """A sealed field in the public schema, whose model does not say which tenant's key to use."""

    reason = "tenant_unnamed"
