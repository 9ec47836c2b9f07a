package testbed

import (
	"fmt"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// offload is a feature that decides how much one packet can carry, and who computes its checksum.
type offload struct {
	name string
	ask  uint32 // one of the ETHTOOL_G… of include/uapi/linux/ethtool.h
}

func offloadKinds() []offload {
	return []offload{{"tx-checksum", unix.ETHTOOL_GTXCSUM}, {"sg", unix.ETHTOOL_GSG}, {"tso", unix.ETHTOOL_GTSO}, {"gso", unix.ETHTOOL_GGSO}, {"gro", unix.ETHTOOL_GGRO}}
}

// offloads lists which of them a device has.
func (s *Space) offloads(device string) (string, error) {
	var on []string
	err := s.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, o := range offloadKinds() {
			has, err := askEthtool(fd, device, o.ask)
			if err != nil {
				return fmt.Errorf("%s: %w", o.name, err)
			}
			if has {
				on = append(on, o.name)
			}
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("read offloads of %s: %w", device, err)
	}
	return strings.Join(on, " "), nil
}

// askEthtool asks for a value that is on or off.
func askEthtool(fd int, device string, command uint32) (bool, error) {
	value := struct{ command, data uint32 }{command: command}
	request := struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:unix.IFNAMSIZ-1], device)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return false, errno
	}
	return value.data != 0, nil
}
