#!/bin/busybox sh
# The first process of the virtual machine: mounts what there is, does the job, switches the machine off.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /tmp /root /etc
mount -t tmpfs shm /dev/shm
chmod 1777 /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
echo 'root:x:0:0:root:/root:/bin/sh' > /etc/passwd
echo 'nobody:x:65534:65534:nobody:/tmp:/bin/sh' >> /etc/passwd
# Results have a line of their own; the kernel may talk on the other.
stty -F /dev/ttyS1 raw
HOME=/root LC_ALL=C sh /job > /dev/ttyS1 2>&1 < /dev/null
sync
poweroff -f
