"""Who may reach a scheduler: loopback addresses, or TLS."""

import ipaddress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distributed.security import Security

from artifact_mask.errors import ConfigError

TLS_OPTIONS = ("tls_ca_file", "tls_cert", "tls_key")


def address_security(address: str, files: dict[str, Any], *, insecure: bool) -> Security | None:
    """Return the credentials to connect to a running scheduler with; None for a plain connection.

    Parameters
    ----------
    address
        ``tcp://host:port`` or ``tls://host:port``.
    files
        Values of :data:`TLS_OPTIONS`, as far as given; Dask's own configuration stands in for them.
    insecure
        Whether a plain connection to another machine is allowed.

    Raises
    ------
    ConfigError
        If a plain connection would leave this machine, or the certificates are missing.
    """
    if address.startswith("tls://"):
        security: Any = file_security(files) or Security(require_encryption=True)
        if not (security.tls_ca_file and security.tls_client_cert):
            raise ConfigError(
                f"{address} needs certificates: give the options {', '.join(TLS_OPTIONS)}, or set Dask's "
                "distributed.comm.tls."
            )
        assert isinstance(security, Security)
        return security
    if not insecure and not is_loopback(urlsplit(address).hostname or ""):
        raise ConfigError(
            f"{address} is another machine, and the connection is not encrypted: who can reach that scheduler can run "
            "code as you. Start it with TLS and use tls://, or say --insecure if the network is trusted."
        )
    return None


def cluster_security(files: dict[str, Any]) -> Security:
    """Return the credentials of a cluster that we start beyond this machine: those given, or new ones.

    Raises
    ------
    ConfigError
        If files are missing, or the package that makes new ones.
    """
    try:
        return file_security(files) or Security.temporary()
    except ImportError as error:
        raise ConfigError(
            "To encrypt the connections between machines, install `cryptography`, or give the options "
            f"{', '.join(TLS_OPTIONS)}. --insecure does without encryption."
        ) from error


def file_security(files: dict[str, Any]) -> Security | None:
    """Return credentials read from files, the same for every role; None if no file is given."""
    if not files:
        return None
    if not {"tls_ca_file", "tls_cert"} <= set(files):
        raise ConfigError(
            "TLS needs the options tls_ca_file and tls_cert, and tls_key if the key is in a file of its own."
        )
    for name, file in files.items():
        if not Path(file).is_file():
            raise ConfigError(f"{name}: there is no file {file}.")
    roles = {
        f"tls_{role}_{part}": str(files[f"tls_{part}"])
        for role in ("client", "scheduler", "worker")
        for part in ("cert", "key")
        if f"tls_{part}" in files
    }
    return Security(require_encryption=True, tls_ca_file=str(files["tls_ca_file"]), **roles)


def tls_settings(security: Any) -> dict[str, Any]:
    """Return credentials as Dask's configuration, with the contents of the files instead of their names."""

    def content(value: str) -> str:
        return value if "\n" in value else Path(value).read_text(encoding="ascii")

    pairs = {"cert": security.tls_worker_cert, "key": security.tls_worker_key}
    return {
        "distributed.comm.require-encryption": True,
        "distributed.comm.tls.ca-file": content(security.tls_ca_file),
        **{f"distributed.comm.tls.worker.{name}": content(value) for name, value in pairs.items() if value},
    }


def write_credentials(security: Any, folder: Path) -> Security:
    """Write credentials into a folder that workers share, which nobody else can read; return them as files."""
    names = {
        "tls_ca_file": security.tls_ca_file,
        "tls_cert": security.tls_worker_cert,
        "tls_key": security.tls_worker_key,
    }
    files = {}
    for name, value in names.items():
        if value and "\n" in value:
            (folder / name).touch(mode=0o600)
            (folder / name).write_text(value, encoding="ascii")
            files[name] = str(folder / name)
        elif value:
            files[name] = value
    written = file_security(files)
    assert written is not None
    return written


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine's loopback address; names other than localhost are not looked up."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
