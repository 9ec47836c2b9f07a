package datapath

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/cilium/ebpf"

	"wirelab.dev/wirelab/internal/settings"
)

// sysctl is one setting of the node, by its path below /proc/sys.
type sysctl struct {
	path string
	// ok says whether a value will do as it is.
	ok   func(value string) bool
	want string
}

// nodeSysctls are the sysctls of the node as a whole. Packets of pods are routed, and arrive on another device than the route
// back to the pod leads through: strict reverse path filtering would drop them. The kernel applies the stricter of a
// device's setting and "all", so "all" must not be strict. BPF checks the pods' source addresses, and NICs keep their own
// setting.
var nodeSysctls = []sysctl{
	{path: "net/ipv4/ip_forward", ok: is("1"), want: "1"},
	{path: "net/ipv4/conf/all/rp_filter", ok: func(v string) bool { return v != "1" }, want: "0"},
}

func is(want string) func(string) bool { return func(v string) bool { return v == want } }

// deviceSysctls are the sysctls of one of our devices in a mode. They vanish with the device, so nothing has to be undone.
// Where the stack carries host ports, route_localnet lets it send packets with a loopback source to a pod and accept the
// answers. The program at the veth drops what a pod itself sends to a loopback address.
func deviceSysctls(device string, mode settings.Mode) []sysctl {
	localnet := "0"
	if mode == settings.ModeKubeProxy {
		localnet = "1"
	}
	local := "0"
	if device == hostDevice && mode != settings.ModeKubeProxy {
		local = "1" // see lab_fragmenter in bpf/netdev.c
	}
	return []sysctl{
		{path: "net/ipv4/conf/" + device + "/route_localnet", ok: is(localnet), want: localnet},
		{path: "net/ipv4/conf/" + device + "/accept_local", ok: is(local), want: local},
		{path: "net/ipv4/conf/" + device + "/rp_filter", ok: is("0"), want: "0"},
		{path: "net/ipv4/conf/" + device + "/forwarding", ok: is("1"), want: "1"},
		{path: "net/ipv6/conf/" + device + "/disable_ipv6", ok: is("1"), want: "1"},
	}
}

// Sysctls keeps the sysctls that forwarding pods' traffic needs.
type Sysctls struct{ d *Datapath }

// Sysctls returns the reconciler of sysctls.
func (d *Datapath) Sysctls() *Sysctls { return &Sysctls{d: d} }

// Apply sets them and remembers the values it found. [Open] has applied it once.
func (s *Sysctls) Apply(_ context.Context) error {
	var errs []error
	for _, want := range nodeSysctls {
		errs = append(errs, s.ensure(want))
	}
	if s.d.cfg.KubeProxyReplacement {
		errs = append(errs, s.reservePorts())
	}
	return errors.Join(errs...)
}

// sysctlsOf are the paths of those of a mode.
func sysctlsOf(mode settings.Mode) []string {
	paths := []string{}
	for _, s := range nodeSysctls {
		paths = append(paths, s.path)
	}
	if mode != settings.ModeKubeProxy {
		paths = append(paths, reservedPorts)
	}
	return paths
}

func (s *Sysctls) ensure(want sysctl) error {
	proc := s.d.cfg.Proc
	found, err := readSysctl(proc, want.path)
	if err != nil {
		return err
	}
	if want.ok(found) {
		return nil
	}
	if err := remember(s.d.maps.sysctls, want.path, found); err != nil {
		return err
	}
	if err := writeSysctl(proc, want.path, want.want); err != nil {
		return err
	}
	s.d.log.Info("sysctl is set", "sysctl", want.path, "value", want.want, "found", found)
	return nil
}

func restoreSysctls(proc string, remembered *ebpf.Map) error {
	found, err := rememberedSysctls(remembered)
	if err != nil {
		return err
	}
	var errs []error
	for path, value := range found {
		if path == reservedPorts {
			value, err = withoutReserved(proc, remembered)
		}
		if err == nil {
			err = writeSysctl(proc, path, value)
		}
		if err == nil {
			err = forgetSysctl(remembered, path)
		}
		errs = append(errs, err)
		err = nil
	}
	return errors.Join(errs...)
}

func (d *Datapath) setDeviceSysctls(device string) error {
	for _, want := range deviceSysctls(device, d.cfg.Mode()) {
		found, err := readSysctl(d.cfg.Proc, want.path)
		if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(want.path, "net/ipv6/") {
			continue // a kernel that has IPv6 switched off has nothing to switch off
		}
		if err != nil {
			return err
		}
		if want.ok(found) {
			continue
		}
		if err := writeSysctl(d.cfg.Proc, want.path, want.want); err != nil {
			return err
		}
	}
	return nil
}

// longestSysctl is more than a list of half of all ports takes.
const longestSysctl = 1 << 20

// readSysctl reads the value at once: of a list of ports a second read has nothing.
func readSysctl(proc, path string) (string, error) {
	for size := 4 << 10; ; size *= 16 {
		value, err := readOnce(filepath.Join(proc, path), size)
		if err != nil {
			return "", fmt.Errorf("read sysctl: %w", err)
		}
		if len(value) < size {
			return strings.TrimSpace(string(value)), nil
		}
		if size >= longestSysctl {
			return "", fmt.Errorf("read sysctl %s: its value is longer than %d bytes", path, size)
		}
	}
}

func readOnce(path string, size int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	buf := make([]byte, size)
	n, err := f.Read(buf)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return buf[:n], err
}

// writeSysctl ends the value with a line feed: an empty one would not be written at all.
func writeSysctl(proc, path, value string) error {
	if err := os.WriteFile(filepath.Join(proc, path), []byte(value+"\n"), 0o644); err != nil {
		return fmt.Errorf("set sysctl to %s: %w", value, err)
	}
	return nil
}
