#!/bin/sh
# Run a command as on a node of its own: its root is an overlay on a small disk (a tmpfs), so that Ray's disk figure is
# that disk's. Usage, in a mount namespace of its own: node.sh DIRECTORY SIZE REPOSITORY COMMAND...
set -eu
directory=$1 size=$2 repository=$3
shift 3
mkdir -p "$directory"
mount -t tmpfs -o "size=$size" tmpfs "$directory"
mkdir "$directory/upper" "$directory/work" "$directory/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" "$directory/root"
for shared in /proc /sys /dev "$repository"; do
    mount --rbind "$shared" "$directory/root$shared"
done
exec chroot "$directory/root" "$@"
