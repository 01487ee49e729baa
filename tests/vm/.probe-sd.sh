exec 2>&1
set -x
stat -c '%A %u %n' / /proc /sys /dev /run /tmp /var /var/tmp /opt
umount_test=/mnt/x; mkdir -p $umount_test; mount --bind / $umount_test; stat -c '%A %u %n' $umount_test $umount_test/proc $umount_test/sys $umount_test/dev $umount_test/run $umount_test/tmp; umount $umount_test
scripts/install
cat > /tmp/loop.toml <<X
name = "loop"
script = 'echo begin; while :; do :; done'
X
jobsctl submit examples/hello.toml
jobsctl wait 1
journalctl -u jobsd -u jobs-launcher -u jobs-cgroup -o short-precise --no-pager
cat /proc/$(systemctl show -p MainPID --value jobs-launcher)/mountinfo
PID=$(systemctl show -p MainPID --value jobs-launcher)
strace -f -o /tmp/strace.out -p $PID & S=$!
sleep 3
jobsctl submit examples/hello.toml; jobsctl wait 2
kill $S; wait
grep -n -e EACCES -e EPERM /tmp/strace.out
P=$(grep EACCES /tmp/strace.out | grep proc | head -1 | awk '{print $1}')
grep "^$P " /tmp/strace.out | tail -60
