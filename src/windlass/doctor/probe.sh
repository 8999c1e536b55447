# Tries what a job must not be able to do, and says of each: NAME denied|allowed|untried WHY. It changes nothing where it
# is let: files are opened and not written to, what was made is taken away again.
set -u
say() { printf 'probe %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1 || { [ -x /bin/busybox ] && /bin/busybox --list 2>/dev/null | grep -qx "$1"; }; }
tool() { name=$1; shift; if command -v "$name" >/dev/null 2>&1; then "$name" "$@"; else /bin/busybox "$name" "$@"; fi; }
here=/tmp/windlass-probe.$$
mkdir "$here" 2>/dev/null || { here=$PWD/windlass-probe.$$; mkdir "$here" 2>/dev/null || here=; }

try() { # NAME, TOOL, and what undoes it; the rest is the attempt
    name=$1 program=$2 undo=$3; shift 3
    if ! have "$program"; then say "$name untried the image has no $program"; return; fi
    if why=$(tool "$program" "$@" 2>&1); then say "$name allowed $program works"; eval "$undo"; return; fi
    case $why in
    *denied* | *'not permitted'* | *ead-only*) say "$name denied ${why##*: }" ;;
    *) say "$name $otherwise $program says: ${why##*: }" ;;
    esac
}
opens() { # NAME FILE: whether it can be opened to write
    if [ ! -e "$2" ]; then say "$1 denied there is no $2"; return; fi
    if why=$( ( : >>"$2" ) 2>&1 ); then say "$1 allowed $2 opens for writing"; else say "$1 denied $2: ${why##*: }"; fi
}

otherwise=untried # what it is when the kernel did not refuse it, and it failed all the same
try mount mount 'tool umount "$here"' -t tmpfs none "${here:-/mnt}"
try mknod mknod 'rm -f "$here/disk"' "${here:-/tmp}/disk" b 8 0
try namespaces unshare : -m true
otherwise=allowed # the socket comes first, and was had
try raw_socket arping : -c 1 -w 1 -I lo 127.0.0.1
opens kernel_settings /proc/sys/kernel/core_pattern
opens sysrq /proc/sysrq-trigger
opens kernel_memory /dev/mem
found=
for folder in /sys/fs/cgroup /sys/fs/cgroup/*; do
    if [ -d "$folder" ] && mkdir "$folder/windlass-probe" 2>/dev/null; then
        [ -e "$folder/windlass-probe/cgroup.procs" ] && found=$folder
        rmdir "$folder/windlass-probe"
    fi
done
[ -n "$found" ] && say "cgroups allowed $found takes new groups" || say 'cgroups denied no group can be made'

found=
for device in /dev/*; do [ -b "$device" ] && found="$found $device"; done
[ -n "$found" ] && say "disks allowed the host's disks are there:$found" || say 'disks denied there is no block device in /dev'

found=
for socket in /var/run/docker.sock /run/docker.sock /run/containerd/containerd.sock /run/podman/podman.sock; do
    [ -e "$socket" ] && found=$socket
done
[ -n "$found" ] && say "engine_socket allowed $found is there" || say "engine_socket denied no engine's socket is there"

count=0 kernel=
for folder in /proc/[0-9]*; do
    count=$((count + 1))
    IFS= read -r name <"$folder/comm" 2>/dev/null && [ "$name" = kthreadd ] && kernel=1
done
case "${kernel:-}$(readlink /proc/self/ns/pid 2>/dev/null || tool readlink /proc/self/ns/pid 2>/dev/null)" in
1* | *4026531836*) say "host_processes allowed it sees the host's $count processes" ;;
*) say "host_processes denied it sees $count processes, its own" ;;
esac

status() { while read -r key value _; do [ "$key" = "$1:" ] && printf %s "$value"; done </proc/self/status; }
say "capabilities value $(status CapBnd) $(status CapEff)"
[ "$(status NoNewPrivs)" = 1 ] && say 'setuid denied no_new_privs is set: a setuid file gives nothing' || say 'setuid allowed no_new_privs is not set'
case "$(status Seccomp)" in 2) say 'system_calls denied seccomp filters them' ;; *) say 'system_calls allowed seccomp filters nothing' ;; esac

if have wget; then
    if tool timeout 5 wget -q -T 3 -O /dev/null http://169.254.169.254/ 2>"${here:-/tmp}/said"; then
        say 'metadata allowed http://169.254.169.254 answers'
    elif grep -q 'HTTP/\|server returned\|ERROR [0-9]' "${here:-/tmp}/said"; then
        say 'metadata allowed http://169.254.169.254 answers, with a refusal'
    else
        say 'metadata denied nothing answers at 169.254.169.254'
    fi
else
    say 'metadata untried the image has no wget'
fi
[ -n "$here" ] && rm -rf "$here"
say 'done denied'
