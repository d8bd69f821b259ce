set -e
here=$(mktemp -d)
for python in /opt/venv/bin/python python3 python; do
  "$python" -c 'import importlib.util as u; raise SystemExit(u.find_spec("unsloth") is None)' 2>/dev/null && break
done
"$python" -m zipfile -e "$1" "$here"
export PYTHONPATH="$here:$here/packages" PYTHONUNBUFFERED=1
"$python" -c 'import filelock, psutil, pynvml, threadpoolctl, yaml' 2>/dev/null ||
  "$python" -m pip install --quiet --target "$here/packages" -r "$here/needed.txt"
shift
exec "$python" -m rankviz.jobs.inside "$@"
