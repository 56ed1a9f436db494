"""Where this process may send requests that tenants and clients choose the address of."""

from dataclasses import dataclass

from environs import Env, EnvError, ValidationError, validate

from tenants.keys.networks import Network, read_network


class EgressInvalid(Exception):
    """A variable has a value that cannot be used; the message names it."""


@dataclass(frozen=True, slots=True)
class EgressConfig:
    """``private_networks`` may be asked although they are not public, and over ``http://`` too; ``http`` allows that
    everywhere. ``max_bytes`` bounds an answer, decompressed; ``total_s`` a request from its beginning to the end of its
    answer, redirects included."""

    private_networks: tuple[Network, ...] = ()
    http: bool = False
    max_bytes: int = 1024 * 1024
    connect_s: float = 3.0
    total_s: float = 30.0

    @classmethod
    def from_environ(cls) -> "EgressConfig":
        """Raises EgressInvalid."""
        env = Env(eager=True)
        seconds = validate.Range(min=0.1, max=600)
        try:
            written: list[str] = env.list("AVB_EGRESS_PRIVATE_NETWORKS", [], validate=_check_networks)
            return cls(
                private_networks=tuple(read_network(network) for network in written),
                http=env.bool("AVB_EGRESS_HTTP", False),
                max_bytes=env.int("AVB_EGRESS_MAX_BYTES", 1024 * 1024, validate=validate.Range(min=1024)),
                connect_s=env.float("AVB_EGRESS_CONNECT_S", 3.0, validate=seconds),
                total_s=env.float("AVB_EGRESS_TOTAL_S", 30.0, validate=seconds),
            )
        except EnvError as error:
            raise EgressInvalid(str(error)) from error


def _check_networks(written: list[str]) -> None:
    for network in written:
        try:
            read_network(network)
        except ValueError as error:
            raise ValidationError(f"{error}; networks look like 10.0.0.0/8") from error
