"""Build the image, run it, ask it, stop it: ``make docker-test``.

For root on a machine with buildah and without a Docker engine; the base image, unless BASE names
one, is made by debootstrap. pip's configuration on this machine is mounted into the build, as are
the folders that it names.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.paths import ROOT
from tests.patience import PATIENCE_S, wait_until

IMAGE, BASE_IMAGE, BASE_RELEASE = "localhost/vimserve:cpu", "localhost/vimserve-base", "bookworm"
BASE_PACKAGES = "python3,python3-venv,gcc,libc6-dev,ca-certificates,tini"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
USER, PORT = 10001, 8739
URL = f"http://127.0.0.1:{PORT}"
WRITABLE = ("tmp", "var/lib/vimserve", "var/cache/vimserve")
LOG = Path(tempfile.gettempdir()) / "vimserve-image.log"
SAMPLES = ROOT / "model" / "demo" / "samples"


def buildah(*arguments: str) -> str:
    """Run a command of buildah's; what it prints."""
    command = ["buildah", "--storage-driver", "vfs", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip()


def make_base() -> str:
    """The name of a base image, which is made if there is none."""
    if given := os.environ.get("BASE"):
        return given
    if BASE_IMAGE not in buildah("images", "--format", "{{.Name}}"):
        with tempfile.TemporaryDirectory() as folder:
            flags = ["--variant=minbase", f"--include={BASE_PACKAGES}"]
            subprocess.run(
                ["debootstrap", *flags, BASE_RELEASE, folder], check=True, stdout=subprocess.DEVNULL
            )
            container = buildah("from", "scratch")
            buildah("copy", "--quiet", container, f"{folder}/", "/")
        buildah("config", "--env", f"PATH={PATH}", container)
        buildah("commit", "--quiet", "--rm", container, BASE_IMAGE)
    return BASE_IMAGE


def pip_flags(folder: Path) -> list[str]:
    """Flags that give the build this machine's configuration of pip."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = dict(re.findall(r"^(?:global\.|:env:\.)(\S+)='(.*)'$", listed, re.MULTILINE))
    lines = [f"{name} = {value}" for name, value in settings.items()]
    file = folder / "pip.conf"
    file.write_text("\n".join(["[global]", *lines, ""]))
    words = (word.removeprefix("file://") for value in settings.values() for word in value.split())
    mounted = {word for word in words if word.startswith("/") and Path(word).exists()}
    # An index of files lies below what holds its packages.
    mounted |= {str(Path(word).parent) for word in mounted if word.endswith("/simple")}
    volumes = [f"--volume={path}:{path}:ro" for path in sorted(mounted)]
    return [f"--secret=id=pip.conf,src={file}", *volumes]


def build(base: str) -> None:
    """The server's image, for CPUs."""
    with tempfile.TemporaryDirectory() as folder:
        buildah(
            "bud", "--quiet", "--isolation=chroot", "--network=host", "--format=docker",
            "--file=docker/Dockerfile", "--target=server", f"--tag={IMAGE}",
            f"--build-arg=BASE={base}", "--build-arg=DEVICE=cpu", *pip_flags(Path(folder)), ".",
        )  # fmt: skip


def layers() -> Iterator[tuple[str, int]]:
    """What made each layer, and its compressed bytes."""
    with tempfile.TemporaryDirectory() as folder:
        buildah("push", "--quiet", "--format=oci", IMAGE, f"oci:{folder}:image")
        blobs = Path(folder) / "blobs" / "sha256"

        def blob(digest: str) -> dict[str, Any]:
            return json.loads((blobs / digest.removeprefix("sha256:")).read_text())

        (entry,) = json.loads((Path(folder) / "index.json").read_text())["manifests"]
        manifest = blob(entry["digest"])
        history = [h for h in blob(manifest["config"]["digest"])["history"]
                   if not h.get("empty_layer")]  # fmt: skip
        for step, layer in zip(history, manifest["layers"], strict=True):
            yield " ".join(step.get("created_by", "base").split())[:90], layer["size"]


@contextmanager
def running(container: str, *environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """The image's own command as its own user; it has ended when the block is left."""
    image = json.loads(buildah("inspect", container))["OCIv1"]["config"]
    patient = (f"VIMSERVE_{name}_TIMEOUT={PATIENCE_S}" for name in ("REQUEST", "DRAIN"))
    settings = [f"VIMSERVE_PORT={PORT}", "VIMSERVE_HOST=127.0.0.1", *patient, *environment]
    command = [
        "buildah", "--storage-driver", "vfs", "run", "--isolation=chroot",
        f"--user={image['User']}", *(f"--env={setting}" for setting in settings), container, "--",
        *image["Entrypoint"], *image["Cmd"],
    ]  # fmt: skip
    with LOG.open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield process
        finally:
            for pid in inside():
                os.kill(pid, signal.SIGTERM)


def inside() -> list[int]:
    """The processes of the container: who runs as its user, the init first."""
    owned = [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if folder.exists() and folder.stat().st_uid == USER
    ]
    named = {pid: Path(f"/proc/{pid}/comm").read_text().strip() for pid in sorted(owned)}
    return [pid for pid, name in named.items() if name == "tini"]


def seconds_until_ready(process: subprocess.Popen[bytes]) -> float:
    """How long it took."""
    start = time.monotonic()
    while time.monotonic() - start < PATIENCE_S and process.poll() is None:
        try:
            if httpx2.get(f"{URL}/readyz").status_code == 200:
                return time.monotonic() - start
        except httpx2.TransportError:  # nobody listens yet
            pass
        time.sleep(0.05)
    process.kill()
    raise RuntimeError(f"it did not become ready: {LOG.read_text()[-2000:]}")


def check_answers() -> None:
    """Real requests, and a bad one."""
    dog, scene = ((SAMPLES / name).read_bytes() for name in ("dog.jpg", "flower-1248.jpg"))
    with httpx2.Client(base_url=f"{URL}/v1", timeout=PATIENCE_S) as client:
        (result,) = client.post("/classify?top_k=1", content=dog).json()["results"]
        assert result["predictions"][0]["label"] == "dog", result
        answer = client.post("/segment?format=overlay", content=scene)
        assert answer.headers["Content-Type"] == "image/jpeg"
        assert answer.content[:2] == b"\xff\xd8"
        assert client.post("/classify", content=b"a text").status_code == 415


def scrape() -> str:
    """The metrics."""
    return httpx2.get(f"{URL}/metrics", timeout=PATIENCE_S).text


def check_drains(process: subprocess.Popen[bytes]) -> None:
    """What is under way when SIGTERM comes is answered; then the server ends with 0."""
    scenes = [("file", ("scene", (SAMPLES / "flower-1248.jpg").read_bytes()))] * 24
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(httpx2.post, f"{URL}/v1/segment", files=scenes, timeout=PATIENCE_S)
        wait_until(lambda: "vimserve_inflight 1.0" in scrape())
        assert not waiting.done(), "answered before the signal"
        (init,) = inside()
        os.kill(init, signal.SIGTERM)
        answer = waiting.result()
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["results"]) == len(scenes)
    assert process.wait(PATIENCE_S) == 0, process.returncode


def check_untouched(container: str, since: float) -> None:
    """Nothing was written but where volumes are: the root file system may be read-only."""
    root = Path(buildah("mount", container))
    try:
        for folder, names, files in os.walk(root):
            here = Path(folder)
            names[:] = [n for n in names if str((here / n).relative_to(root)) not in WRITABLE]
            for file in (here / name for name in files):
                if file.is_file() and not file.is_symlink() and file.stat().st_uid == USER:
                    assert file.stat().st_mtime < since, file.relative_to(root)
    finally:
        buildah("umount", container)


def main() -> None:
    """Do all of it, and print what was seen."""
    if not shutil.which("buildah") or os.geteuid():
        sys.exit("this needs root, and the Debian packages buildah and debootstrap")
    start = time.monotonic()
    build(make_base())
    print(f"built in {time.monotonic() - start:.0f} s")
    for step, size in layers():
        print(f"{size / 1e6:9.1f} MB  {step}")
    container, began = buildah("from", IMAGE), time.time()
    try:
        for cache, environment in (("cold", ["NUMBA_CACHE_DIR=/tmp/numba"]), ("warm", [])):
            with running(container, *environment) as process:
                seconds = seconds_until_ready(process)
                print(f"ready {seconds:.1f} s after its start, cache {cache}")
                assert inside(), f"nobody runs as {USER}"
                check_answers()
                check_drains(process)
        print(f"ran as {USER}, answered, drained")
        check_untouched(container, began)
        print("wrote nothing outside of its volumes and /tmp")
    finally:
        buildah("rm", container)


if __name__ == "__main__":
    main()
