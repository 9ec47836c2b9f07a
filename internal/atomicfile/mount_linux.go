package atomicfile

import "golang.org/x/sys/unix"

// isMount tells whether something is mounted at the very file, which then cannot be renamed over.
func isMount(name string) bool {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, name, unix.AT_SYMLINK_NOFOLLOW, 0, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}
