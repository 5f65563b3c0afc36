"""Certificate authorities of the test's own, and what they sign, by the openssl command."""

import pathlib
import subprocess

# Not Debian's, which would make every certificate a CA's.
_CONFIG = "[req]\ndistinguished_name = dn\n[dn]\n"


class Authority:
    """A CA in a folder; `ca` is its certificate's file. Keys are of P-256: fast to make."""

    def __init__(self, folder: pathlib.Path, name: str = "ca"):
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._config = folder / "openssl.cnf"
        self._config.write_text(_CONFIG)
        self.ca, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        self._make(self.ca, self._key, name, "basicConstraints=critical,CA:TRUE", "keyUsage=keyCertSign")

    def sign(self, name: str, *names: str, days: int = 2) -> tuple[str, str]:
        """Paths of a certificate and its key. names: the DNS:… and IP:… that a server has; none: a client's."""
        cert, key = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        usage = "serverAuth" if names else "clientAuth"
        extensions = [f"extendedKeyUsage={usage}", "basicConstraints=CA:FALSE"]
        if names:
            extensions.append(f"subjectAltName={','.join(names)}")
        self._make(cert, key, name, *extensions, signer=("-CA", self.ca, "-CAkey", self._key), days=days)
        return str(cert), str(key)

    def _make(self, cert, key, name: str, *extensions: str, signer=(), days: int = 2) -> None:
        argv = ["openssl", "req", "-config", self._config, "-x509", "-newkey", "ec", "-pkeyopt"]
        argv += ["ec_paramgen_curve:P-256", "-nodes", "-days", days, "-subj", f"/CN={name}"]
        argv += ["-keyout", key, "-out", cert]
        for extension in extensions:
            argv += ["-addext", extension]
        subprocess.run([str(word) for word in (*argv, *signer)], check=True, capture_output=True)
