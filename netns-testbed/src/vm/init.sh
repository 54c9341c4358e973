#!/bin/sh
# The guest's first process. Loads the modules, then does what comes over the second serial line, one script after another,
# and says there what came of each. The first serial line is the kernel's console.
#
#   in   ID SECONDS BASE64                  a script, and how long it may take
#   out  ready RELEASE                      once
#        begin ID CODE                      when the script has ended; 137 where it took too long
#        BASE64 ...                         what it wrote on standard output
#        -
#        BASE64 ...                         what it wrote on standard error
#        end ID
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
# Says so of each that is there already.
/bin/busybox --install -s /bin 2>/dev/null
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t debugfs debug /sys/kernel/debug
# Nobody may be left who could switch this machine off.
(sleep "$(sed -n 's/.*wiretick.seconds=\([0-9]*\).*/\1/p' /proc/cmdline)"; poweroff -f) &
while read -r module; do insmod "/modules/$module"; done </modules/order
ip link set lo up

stty -F /dev/ttyS1 raw -echo
exec </dev/ttyS1 >/dev/ttyS1
echo "ready $(uname -r)"
while read -r id seconds script; do
    echo "$script" | base64 -d >/run/script
    # By its path: busybox takes a bare "sh" for its own, which knows no tools but busybox's.
    timeout -s KILL "$seconds" /bin/sh /run/script >/run/out 2>/run/err </dev/null
    code=$?
    # Where the script was ended, what it had started goes on.
    killall -q -KILL wiretick
    echo "begin $id $code"
    base64 /run/out
    echo -
    base64 /run/err
    echo "end $id"
done
poweroff -f
