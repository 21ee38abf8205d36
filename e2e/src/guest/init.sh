#!/bin/busybox sh
# Runs as the guest's first process. Each check prints one line for the host:
#   vcmdq-check: NAME ok|FAIL DETAIL
# and what the host is to do is asked for by a line that it answers with one of its own:
#   vcmdq-host: WHAT
# Kernel command line: vcmdq.checks=a,b,c are run in that order; then the machine is switched off,
# or started again if `reboot` is the last.

/bin/busybox mkdir -p /bin /proc /sys /dev /tmp
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
mount -t tmpfs tmp /tmp
# The kernel's own lines would run into ours; panics are shown all the same.
dmesg -n 1
stty -echo -icanon min 1 2>/dev/null

disk=/dev/nvme0n1
provoked=

say() { echo "vcmdq-check: $*"; }
note() { echo "vcmdq-note: $*"; }
# Asks the host and leaves its answer in $answer.
ask() {
    echo "vcmdq-host: $*"
    answer=
    read -r answer
}
verdict() {
    name=$1
    shift
    if [ "$1" = 0 ]; then shift; say "$name ok $*"; else shift; say "$name FAIL $*"; fi
}
# waits at most 10 s until a test holds
wait_for() {
    n=0
    until "$@"; do
        n=$((n + 1))
        [ $n -ge 200 ] && return 1
        sleep 0.05
    done
}
is_block() { [ -b "$disk" ]; }
is_gone() { [ ! -b "$disk" ]; }
address() { basename "$(readlink -f /sys/class/nvme/nvme0/device)"; }
sum_of() { sha256sum "$1" | cut -d' ' -f1; }
# BLOCK-SIZE SKIP COUNT: checksum of a part of the disk, past the page cache
sum_of_disk() { dd if=$disk bs="$1" skip="$2" count="$3" iflag=direct 2>/dev/null | sha256sum | cut -d' ' -f1; }

check_probe() {
    wait_for is_block
    verdict probe $? "$(uname -r) $(cat /sys/class/nvme/nvme0/model 2>/dev/null)"
    dmesg | grep -i -e 'arm-smmu' -e 'iommu:' -e tegra241 | while read -r line; do note "$line"; done
}

# 4 MiB of random data, written in one piece, read back, and compared here and on the host.
check_content() {
    dd if=/dev/urandom of=/tmp/data bs=64k count=64 2>/dev/null
    dd if=/tmp/data of=$disk bs=256k oflag=direct 2>/dev/null
    want=$(sum_of /tmp/data)
    have=$(sum_of_disk 64k 0 64)
    [ "$want" = "$have" ]
    verdict content $? "written $want read $have"
    ask "sum 0 4194304 $want"
    [ "$answer" = same ]
    verdict content-host $? "$answer"
}

# One of four that write and read at the same time, each on its CPU and its part of the disk.
worker() {
    cpu=$1 block=$2 bad=0 round=0
    while [ $round -lt 3 ]; do
        dd if=/dev/urandom of=/tmp/w$cpu bs=64k count=8 2>/dev/null
        want=$(sum_of /tmp/w$cpu)
        count=$((524288 / block))
        at=$(((8388608 + cpu * 2097152) / block))
        taskset $((1 << cpu)) dd if=/tmp/w$cpu of=$disk bs=$block seek=$at oflag=direct conv=notrunc 2>/dev/null
        have=$(taskset $((1 << cpu)) dd if=$disk bs=$block skip=$at count=$count iflag=direct 2>/dev/null | sha256sum | cut -d' ' -f1)
        [ "$want" = "$have" ] || bad=$((bad + 1))
        round=$((round + 1))
    done
    echo "$bad $want" >/tmp/r$cpu
}
check_parallel() {
    worker 0 4096 & worker 1 16384 & worker 2 65536 & worker 3 131072 &
    wait
    bad=0
    for cpu in 0 1 2 3; do
        read -r one want </tmp/r$cpu || one=1
        bad=$((bad + one))
        ask "sum $((8388608 + cpu * 2097152)) 524288 $want"
        [ "$answer" = same ] || bad=$((bad + 1))
    done
    verdict parallel $bad "4 CPUs, $bad wrong"
}

check_rebind() {
    want=$(sum_of_disk 64k 0 16)
    device=$(address)
    echo "$device" >/sys/bus/pci/drivers/nvme/unbind
    wait_for is_gone
    gone=$?
    echo "$device" >/sys/bus/pci/drivers/nvme/bind
    wait_for is_block && have=$(sum_of_disk 64k 0 16)
    [ $gone = 0 ] && [ "$want" = "$have" ]
    verdict rebind $? "$device $have"
}

check_rescan() {
    want=$(sum_of_disk 64k 0 16)
    device=$(address)
    echo 1 >"/sys/bus/pci/devices/$device/remove"
    wait_for is_gone
    gone=$?
    echo 1 >/sys/bus/pci/rescan
    have=
    wait_for is_block && have=$(sum_of_disk 64k 0 16)
    [ $gone = 0 ] && [ "$want" = "$have" ]
    verdict rescan $? "$device $have"
}

faults() { dmesg | grep -c 'event.*F_TRANSLATION\|event 0x10 received'; }
more_faults() { [ "$(faults)" -gt "$before" ]; }
# The device uses addresses that are no longer mapped.
check_fault() {
    before=$(faults)
    sum_of_disk 64k 0 4 >/dev/null
    sleep 0.1
    ask use-after-unmap
    verdict fault-device $((1 - $(case $answer in faulted*) echo 1 ;; *) echo 0 ;; esac))) "$answer"
    wait_for more_faults
    verdict fault-log $? "$(dmesg | grep 'arm-smmu.*event' | tail -1 | cut -c1-150)"
}

errors() { dmesg | grep -c 'CMDQ error'; }
more_errors() { [ "$(errors)" -gt "$before" ]; }
timeouts() { dmesg | grep -c 'CMD_SYNC timeout'; }
# The host makes the next prefetch hint illegal, which Linux sends when it attaches a device.
# Linux waits for its SYNC with interrupts off: if the error's interrupt goes to the same CPU, it is
# handled when that wait is given up. So this runs on another CPU than the first, which takes the
# interrupts; kernel threads may not, so one such wait may be given up.
check_cmderr() {
    before=$(errors)
    early=$(timeouts)
    provoked=yes
    ask corrupt-prefetch
    device=$(address)
    taskset 2 sh -c "echo 1 >/sys/bus/pci/devices/$device/remove"
    wait_for is_gone
    taskset 2 sh -c 'echo 1 >/sys/bus/pci/rescan'
    wait_for is_block
    wait_for more_errors
    seen=$?
    ask corrupted
    late=$(($(timeouts) - early))
    [ $seen = 0 ] && [ "$answer" -gt 0 ] && [ "$early" = 0 ] && [ $late -le 1 ]
    verdict cmderr $? "$answer corrupted, $early and $late waits given up: $(dmesg | grep 'CMDQ error' | tail -1 | cut -c1-100)"
    check_content_again
}
# The driver has taken a queue for each CPU, and they carry the invalidations of translations and
# nothing else; the SMMU's own queue carries the rest.
check_cmdqv() {
    taken=$(dmesg | grep -c 'entries for vcmdq[0-9]')
    [ "$taken" -ge "$(nproc)" ]
    verdict cmdqv $? "$taken queues: $(dmesg | grep 'entries for vcmdq' | tail -1 | cut -c1-120)"
    ask queues "$(nproc)"
    verdict cmdqv-traffic $((1 - $(case $answer in as\ Linux*) echo 1 ;; *) echo 0 ;; esac))) "$answer"
}
# All translations went by stage 2: the SMMU has no other.
check_stage2() {
    ask stage2
    verdict stage2 $((1 - $(case $answer in alone*) echo 1 ;; *) echo 0 ;; esac))) "$answer"
}
# Gives the disk to a program that drives it from user space and tells its own verdicts.
lend_disk() {
    device=$(address)
    place=/sys/bus/pci/devices/$device
    echo "$device" >/sys/bus/pci/drivers/nvme/unbind
    wait_for is_gone
    echo vfio-pci >"$place/driver_override"
    echo "$device" >/sys/bus/pci/drivers_probe
    nesting "$device"
    told=$?
}
# The same where the SMMU is broken: the kernel need not wait for a disk that does not come back.
check_nesting_broken() { lend_disk; }
# The same, then back to the kernel.
check_nesting() {
    lend_disk
    echo "$device" >/sys/bus/pci/drivers/vfio-pci/unbind
    echo >"$place/driver_override"
    echo "$device" >/sys/bus/pci/drivers_probe
    wait_for is_block && have=$(sum_of_disk 64k 0 16)
    ask "sum 0 1048576 $have"
    [ $told = 0 ] && [ "$answer" = same ]
    verdict nesting-back $? "program $told, disk $answer"
}
# The same where the SMMU is QEMU's own.
check_nesting_qemu() { check_nesting; }
check_content_again() {
    dd if=/dev/urandom of=/tmp/data bs=64k count=16 2>/dev/null
    dd if=/tmp/data of=$disk bs=64k oflag=direct 2>/dev/null
    want=$(sum_of /tmp/data)
    have=$(sum_of_disk 64k 0 16)
    [ "$want" = "$have" ]
    verdict recovered $? "written $want read $have"
}

# CPU: writes and reads that part of the disk in pieces of many sizes, at the same time.
load() {
    cpu=$1
    at=$((cpu * 3))
    set -- 4 16 64 128
    for kib in "$@"; do
        skip=$((at * 1024 / kib))
        taskset $((1 << cpu)) dd if=/dev/urandom of=$disk bs=${kib}k seek=$skip count=$((384 / kib)) oflag=direct conv=notrunc 2>/dev/null &
        taskset $((1 << cpu)) dd if=$disk of=/dev/null bs=${kib}k skip=$skip count=$((768 / kib)) iflag=direct 2>/dev/null &
        wait
    done
}
# For a recorder.
check_load() {
    ask record "$(uname -r)"
    cpu=0
    while [ $cpu -lt "$(nproc)" ]; do
        load $cpu &
        cpu=$((cpu + 1))
    done
    wait
    ask recorded
    verdict load $((1 - $(case $answer in *" records"*) echo 1 ;; *) echo 0 ;; esac))) "$answer"
}

# Linux's own benchmark of mapping and unmapping, a thread for each CPU, on a device that it is given.
# Details: map and unmap in microseconds, then what the host says of its worker.
check_latency() {
    device=$(basename "$(ls -d /sys/bus/pci/devices/*:02.0)")
    mount -t debugfs debug /sys/kernel/debug
    echo dma_map_benchmark >"/sys/bus/pci/devices/$device/driver_override"
    echo "$device" >/sys/bus/pci/drivers_probe
    wait_for [ -e /sys/kernel/debug/dma_map_benchmark ]
    # Once for nothing: caches, and translations of QEMU.
    dma_map_benchmark -t "$(nproc)" -s 1 -g 4 >/tmp/out 2>&1
    for pages in 1 4 16 32 64; do
        ask worker
        dma_map_benchmark -t "$(nproc)" -s 1 -g $pages >/tmp/out 2>&1
        ask worker
        map=$(sed -n 's/.*average map latency(us):\([0-9.]*\).*/\1/p' /tmp/out)
        unmap=$(sed -n 's/.*average unmap latency(us):\([0-9.]*\).*/\1/p' /tmp/out)
        [ -n "$map" ] && [ -n "$unmap" ]
        verdict latency-$((4 * pages)) $? "$map $unmap $answer $(head -c 200 /tmp/out | tr '\n' ' ')"
    done
}

for module in /modules/*.ko; do
    [ -f "$module" ] && insmod "$module"
done

checks=$(sed -n 's/.*vcmdq\.checks=\([^ ]*\).*/\1/p' /proc/cmdline | tr , ' ')
# A machine that is started again runs what the host says.
case " $checks " in *" ask "*) ask checks; checks=$(echo "$answer" | tr , ' ') ;; esac
again=
for check in $checks; do
    case $check in
        reboot) again=yes ;;
        *) "check_$check" ;;
    esac
done
# Nothing may have gone wrong that no check has provoked.
wrong='Oops|BUG:|WARNING:|C_BAD|F_STE_FETCH|F_CD_FETCH|I/O error|timeout, '
[ -n "$provoked" ] || wrong="$wrong|unexpected global error|CMD_SYNC timeout"
[ -z "$(dmesg | grep -E "$wrong")" ]
verdict kernel-log $? "$(dmesg | grep -E "$wrong" | tail -1 | cut -c1-150)"
echo "vcmdq-done: $(cut -d' ' -f1 /proc/uptime)"
sync
if [ -n "$again" ]; then reboot -f; else poweroff -f; fi
sleep 60
