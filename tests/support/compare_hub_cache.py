"""Compares the cache that vitrine fills with the one that Python's huggingface_hub fills.

    python tests/support/compare_hub_cache.py PATH/TO/vitrine

Both fetch the same repositories from a server on loopback; then each reads the other's cache while the server
counts what it is asked for. Needs huggingface_hub; cargo test does not run it.
"""

import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

COMMIT = "0123456789abcdef0123456789abcdef01234567"
VITRINE = pathlib.Path(sys.argv[1]).resolve()
INDEX = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})
FILES = {
    "timm/vit_x.y_in1k": {
        "config.json": b'{"architecture": "vit_x", "pretrained_cfg": {}}',
        "README.md": b"---\nlicense: apache-2.0\n---\n",
        "model.safetensors": os.urandom(300_000),
    },
    "org/sharded": {
        "config.json": b'{"model_type": "vit"}',
        "preprocessor_config.json": b"{}",
        "model.safetensors.index.json": INDEX.encode(),
        "model-00001-of-00002.safetensors": os.urandom(1000),
        "model-00002-of-00002.safetensors": os.urandom(2000),
    },
}
ASKED = []


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers as huggingface.co does for models; files of LFS lie under /store/, at another origin."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, headers=(), body=b""):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        ASKED.append((self.command, self.path))
        path = self.path.split("?")[0].lstrip("/")
        if path.startswith("api/models/"):
            repo, _, rest = path.removeprefix("api/models/").partition("/revision/")
            if "/tree/" in path:
                repo = path.removeprefix("api/models/").split("/tree/")[0]
                tree = []
                for name, data in FILES[repo].items():
                    entry = {"type": "file", "path": name, "size": len(data), "oid": blob_id(data)}
                    if name.endswith(".safetensors"):
                        sha256 = hashlib.sha256(data).hexdigest()
                        entry["lfs"] = {"oid": sha256, "size": len(data), "pointerSize": 130}
                    tree.append(entry)
                return self.reply(200, [("content-type", "application/json")], json.dumps(tree).encode())
            info = {"id": repo, "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES[repo]]}
            return self.reply(200, [("content-type", "application/json")], json.dumps(info).encode())
        if path.startswith("store/"):
            _, owner, name, file = path.split("/")
            return self.reply(200, body=FILES[f"{owner}/{name}"][file])
        repo, _, rest = path.partition("/resolve/")
        revision, _, name = rest.partition("/")
        commit = [("x-repo-commit", COMMIT)]
        if repo not in FILES:
            return self.reply(401, [("x-error-code", "RepoNotFound")])
        if revision not in ("main", COMMIT):
            return self.reply(404, [("x-error-code", "RevisionNotFound")])
        if name not in FILES[repo]:
            return self.reply(404, [("x-error-code", "EntryNotFound"), *commit])
        data = FILES[repo][name]
        if not name.endswith(".safetensors"):
            return self.reply(200, [("etag", f'"{blob_id(data)}"'), *commit], data)
        sha256 = hashlib.sha256(data).hexdigest()
        # localhost is another host than 127.0.0.1.
        location = f"http://localhost:{self.server.server_port}/store/{repo}/{name}?signature=x"
        lfs = [("x-linked-etag", f'"{sha256}"'), ("x-linked-size", str(len(data))), ("location", location)]
        return self.reply(302, [*commit, *lfs])


def blob_id(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def tree(cache):
    """Every file of a cache below models--*: what it is, and what it holds or where it leads."""
    found = {}
    for path in sorted(cache.glob("models--*/**/*")):
        name = str(path.relative_to(cache))
        # Python keeps lists of files beside.
        if "/trees/" in name or name.endswith("/trees"):
            continue
        if path.is_symlink():
            found[name] = "-> " + os.readlink(path)
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def run_vitrine(env, *arguments):
    done = subprocess.run([VITRINE, *arguments], env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = (pathlib.Path(folder, name) for name in ("ours", "theirs"))
        os.environ.update(HF_ENDPOINT=endpoint, HF_HUB_DISABLE_XET="1", HF_HUB_DISABLE_PROGRESS_BARS="1")
        os.environ.pop("HF_TOKEN", None)
        os.environ["HF_HOME"] = folder
        import huggingface_hub
        from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache

        for repo, files in FILES.items():
            # Python asks for the files that a reader of models asks for, absent ones as well.
            optional = ("preprocessor_config.json", "README.md", "model.safetensors")
            for name in dict.fromkeys([*files, *optional]):
                try:
                    hf_hub_download(repo, name, cache_dir=theirs)
                except huggingface_hub.errors.EntryNotFoundError:
                    pass
            env = {"HF_HUB_CACHE": str(ours)}
            told = json.loads(run_vitrine(env, "weights", "fetch", f"hf:{repo}", "--json"))
            assert told["commit"] == COMMIT and told["fetched_bytes"] == sum(map(len, files.values())), told

        difference = {
            name: (tree(ours).get(name), tree(theirs).get(name))
            for name in tree(ours).keys() | tree(theirs).keys()
            if tree(ours).get(name) != tree(theirs).get(name)
        }
        assert not difference, difference
        print(f"both caches hold the same {len(tree(ours))} files and links")

        # Ours, read by Python.
        ASKED.clear()
        for repo, files in FILES.items():
            for name, data in files.items():
                path = hf_hub_download(repo, name, cache_dir=ours, local_files_only=True)
                assert pathlib.Path(path).read_bytes() == data
            snapshot = snapshot_download(repo, cache_dir=ours, local_files_only=True)
            assert snapshot == str(ours / f"models--{repo.replace('/', '--')}" / "snapshots" / COMMIT)
        absent = try_to_load_from_cache("timm/vit_x.y_in1k", "preprocessor_config.json", cache_dir=ours)
        assert absent is huggingface_hub.file_download._CACHED_NO_EXIST, absent
        assert not ASKED, ASKED
        for repo, files in FILES.items():
            for name in files:
                hf_hub_download(repo, name, cache_dir=ours)
        assert ASKED and all(method == "HEAD" for method, _ in ASKED), ASKED
        report = huggingface_hub.scan_cache_dir(ours)
        assert not report.warnings and len(report.repos) == len(FILES), report
        print("Python reads ours, offline and online, and fetches nothing")

        # Python's, read by ours.
        ASKED.clear()
        for repo in FILES:
            env = {"HF_HUB_CACHE": str(theirs), "HF_HUB_OFFLINE": "1"}
            told = json.loads(run_vitrine(env, "weights", "fetch", f"hf:{repo}", "--json"))
            assert told["fetched_bytes"] == 0 and told["commit"] == COMMIT, told
        assert not ASKED, ASKED
        for repo in FILES:
            env = {"HF_HUB_CACHE": str(theirs)}
            told = json.loads(run_vitrine(env, "weights", "fetch", f"hf:{repo}", "--json"))
            assert told["fetched_bytes"] == 0, told
        assert ASKED and all(method == "HEAD" for method, _ in ASKED), ASKED
        listed = json.loads(run_vitrine({"HF_HUB_CACHE": str(theirs)}, "weights", "list", "--cached", "--json"))
        assert [each["name"] for each in listed] == [f"hf:{repo}" for repo in sorted(FILES)], listed
        print("vitrine reads Python's, offline and online, and fetches nothing")

        # A whole snapshot that Python fetched, and one without links.
        whole = pathlib.Path(folder, "whole")
        for variables in ({}, {"HF_HUB_DISABLE_SYMLINKS": "1"}):
            fetch = (
                "import sys; from huggingface_hub import snapshot_download as s; "
                f"[s(repo, cache_dir=sys.argv[1]) for repo in {list(FILES)!r}]"
            )
            cache = str(whole) + "".join(variables)
            subprocess.run([sys.executable, "-c", fetch, cache], env={**os.environ, **variables}, check=True)
            ASKED.clear()
            for repo in FILES:
                env = {"HF_HUB_CACHE": cache, "HF_HUB_OFFLINE": "1", **variables}
                run_vitrine(env, "weights", "fetch", f"hf:{repo}")
            assert not ASKED, ASKED
            filled = cache + "-ours"
            for repo, files in FILES.items():
                run_vitrine({"HF_HUB_CACHE": filled, **variables}, "weights", "fetch", f"hf:{repo}")
                for name, data in files.items():
                    path = hf_hub_download(repo, name, cache_dir=filled, local_files_only=True)
                    assert pathlib.Path(path).read_bytes() == data
                    assert os.path.islink(path) != bool(variables)
        print("with and without links")


main()
