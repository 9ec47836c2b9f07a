package datapath

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
)

// sysctl is one setting of the node, by its path below /proc/sys.
type sysctl struct {
	path string
	// ok says whether a value will do as it is.
	ok   func(value string) bool
	want string
	// add makes the value from what was found; nil when it is want.
	add func(found string) string
}

func (s sysctl) value(found string) string {
	if s.add != nil {
		return s.add(found)
	}
	return s.want
}

// nodeSysctls are those that are not of our own devices. Packets of pods are routed, and arrive on
// other devices than the route back to them leads through, which strict reverse path filtering takes
// for forgery. The kernel applies the stricter of a device's setting and "all", so a strict "all" has to
// go; BPF checks the pods' addresses, and NICs keep what is set for them.
var nodeSysctls = []sysctl{
	{path: "net/ipv4/ip_forward", ok: is("1"), want: "1"},
	{path: "net/ipv4/conf/all/rp_filter", ok: func(v string) bool { return v != "1" }, want: "0"},
}

func is(want string) func(string) bool { return func(v string) bool { return v == want } }

// deviceSysctls are those of a device of ours in a mode, which take no undoing: they go with it. Where the stack
// carries host ports, route_localnet lets it send what comes from a loopback address to a pod, and take the answer;
// what a pod sends to a loopback address itself is dropped by the program at its veth.
func deviceSysctls(device string, mode Mode) []sysctl {
	localnet := "0"
	if !mode.services() {
		localnet = "1"
	}
	return []sysctl{
		{path: "net/ipv4/conf/" + device + "/route_localnet", ok: is(localnet), want: localnet},
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
	for _, want := range sysctlsOf(s.d.cfg.Mode) {
		errs = append(errs, s.ensure(want))
	}
	return errors.Join(errs...)
}

// sysctlsOf are those of a mode.
func sysctlsOf(mode Mode) []sysctl {
	if !mode.services() {
		return nodeSysctls
	}
	return append(slices.Clone(nodeSysctls), reservedPorts)
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
	if len(found) > len(sysctlValue("")) {
		return fmt.Errorf("remember sysctl %s: its value is longer than %d bytes", want.path, len(sysctlValue("")))
	}
	err = s.d.maps.sysctls.Update(sysctlKey(want.path), sysctlValue(found), ebpf.UpdateNoExist)
	if err != nil && !errors.Is(err, ebpf.ErrKeyExist) {
		return fmt.Errorf("remember sysctl %s: %w", want.path, err)
	}
	value := want.value(found)
	if err := writeSysctl(proc, want.path, value); err != nil {
		return err
	}
	s.d.log.Info("sysctl is set", "sysctl", want.path, "value", value, "found", found)
	return nil
}

// Clean puts the values found by the first Apply back.
func (s *Sysctls) Clean(_ context.Context) error {
	return restoreSysctls(s.d.cfg.Proc, s.d.maps.sysctls)
}

func restoreSysctls(proc string, remembered *ebpf.Map) error {
	found, err := rememberedSysctls(remembered)
	if err != nil {
		return err
	}
	var errs []error
	for path, value := range found {
		if err := writeSysctl(proc, path, value); err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, remembered.Delete(sysctlKey(path)))
	}
	return errors.Join(errs...)
}

// rememberedSysctls gives the values that were found, by path.
func rememberedSysctls(remembered *ebpf.Map) (map[string]string, error) {
	found := map[string]string{}
	err := eachEntry(remembered, func(key [64]byte, value [32]byte) {
		found[unpad(key[:])] = unpad(value[:])
	})
	if err != nil {
		return nil, fmt.Errorf("read remembered sysctls: %w", err)
	}
	return found, nil
}

func (d *Datapath) setDeviceSysctls(device string) error {
	for _, want := range deviceSysctls(device, d.cfg.Mode) {
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

func readSysctl(proc, path string) (string, error) {
	value, err := os.ReadFile(filepath.Join(proc, path))
	if err != nil {
		return "", fmt.Errorf("read sysctl: %w", err)
	}
	return strings.TrimSpace(string(value)), nil
}

// writeSysctl ends the value with a line feed: an empty one would not be written at all.
func writeSysctl(proc, path, value string) error {
	if err := os.WriteFile(filepath.Join(proc, path), []byte(value+"\n"), 0o644); err != nil {
		return fmt.Errorf("set sysctl to %s: %w", value, err)
	}
	return nil
}

func sysctlKey(path string) (key [64]byte) {
	copy(key[:], path)
	return key
}

func sysctlValue(value string) (padded [32]byte) {
	copy(padded[:], value)
	return padded
}

func unpad(b []byte) string { return string(bytes.TrimRight(b, "\x00")) }
