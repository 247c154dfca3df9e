#!/usr/bin/env bash
# Makes sure that a software TPM (swtpm) is installed, and an OpenSSL provider for TPMs that works, for the tests.
# Debian 12 has tpm2-openssl 1.1.1, which does not (docs/decisions/0058-tpm.md). There the module of Debian 13's package
# goes to build/tpm2-openssl, where nothing but the tests looks; apt checks its signature. The libraries stay Debian 12's.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=build/tpm2-openssl
oldest=1.3
installed() { dpkg-query --show --showformat='${Version}' tpm2-openssl 2>/dev/null || true; }
works() { [ -e "$folder/tpm2.so" ] || dpkg --compare-versions "$(installed)" ge "$oldest"; }
have() { command -v swtpm >/dev/null && command -v openssl >/dev/null && [ -n "$(installed)" ]; }
have && works && exit 0

packages=(swtpm openssl tpm2-openssl)
fail() { echo "set-up: a software TPM is missing; install it with: apt install ${packages[*]} (tpm2-openssl $oldest or newer)" >&2; exit 1; }
command -v apt-get >/dev/null || fail
if [ "$(id -u)" = 0 ]; then sudo=(); elif command -v sudo >/dev/null; then sudo=(sudo); else fail; fi

if ! have; then
    echo "set-up: installing ${packages[*]}"
    export DEBIAN_FRONTEND=noninteractive
    "${sudo[@]}" apt-get update -qq || true
    "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null || fail
    have || fail
fi
works && exit 0

echo "set-up: fetching the module of Debian 13's tpm2-openssl into $folder"
lists=$(mktemp -d)
trap 'rm -rf "$lists"' EXIT
# The mirror that this machine's apt uses.
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | grep -m 1 '/debian/\?$') || fail
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$keyring] $mirror trixie main" >"$lists/sources.list"
mkdir -p "$lists/lists/partial" "$lists/cache/archives/partial"
own=(-o "Dir::Etc::sourcelist=$lists/sources.list" -o "Dir::Etc::sourceparts=/dev/null" -o "Dir::State::lists=$lists/lists"
    -o "Dir::Cache=$lists/cache" -o "APT::Sandbox::User=$(id -un)")
apt-get "${own[@]}" update -qq || fail
(cd "$lists" && apt-get "${own[@]}" download -qq tpm2-openssl >/dev/null) || fail
dpkg-deb --extract "$lists"/tpm2-openssl_*.deb "$lists/root"
mkdir -p "$folder"
cp "$lists"/root/usr/lib/*/ossl-modules/tpm2.so "$folder/tpm2.so.part"
mv "$folder/tpm2.so.part" "$folder/tpm2.so"
