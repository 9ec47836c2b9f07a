package datapath

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"wirelab.dev/wirelab/datapath/lb"
	"wirelab.dev/wirelab/internal/api"
	"wirelab.dev/wirelab/internal/netnstest"
	"wirelab.dev/wirelab/internal/settings"
)

func TestDifference(t *testing.T) {
	wanted := []chain{{"LAB-X", []string{"-s 10.0.0.0/8 -j RETURN", "-j MASQUERADE"}}}
	jumps := []jump{{"POSTROUTING", "-j LAB-X"}}
	whole := []string{":LAB-X - [0:0]", "-A LAB-X -s 10.0.0.0/8 -j RETURN", "-A LAB-X -j MASQUERADE"}
	for name, test := range map[string]struct {
		saved string
		want  []string
	}{
		"nothing there":   {"*nat\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n", append(slices.Clone(whole), "-A POSTROUTING -j LAB-X")},
		"all there":       {":LAB-X - [0:0]\n-A POSTROUTING -j LAB-X\n-A LAB-X -s 10.0.0.0/8 -j RETURN\n-A LAB-X -j MASQUERADE\n", nil},
		"rule missing":    {":LAB-X - [0:0]\n-A POSTROUTING -j LAB-X\n-A LAB-X -j MASQUERADE\n", whole},
		"wrong order":     {":LAB-X - [0:0]\n-A POSTROUTING -j LAB-X\n-A LAB-X -j MASQUERADE\n-A LAB-X -s 10.0.0.0/8 -j RETURN\n", whole},
		"jump twice":      {":LAB-X - [0:0]\n-A POSTROUTING -j LAB-X\n-A POSTROUTING -j LAB-X\n" + "-A LAB-X -s 10.0.0.0/8 -j RETURN\n-A LAB-X -j MASQUERADE\n", []string{"-D POSTROUTING -j LAB-X"}},
		"jump from other": {":LAB-X - [0:0]\n-A INPUT -p tcp -j LAB-X\n-A POSTROUTING -j LAB-X\n-A LAB-X -s 10.0.0.0/8 -j RETURN\n-A LAB-X -j MASQUERADE\n", []string{"-D INPUT -p tcp -j LAB-X"}},
		"similar name":    {":LAB-X - [0:0]\n-A POSTROUTING -j LAB-X\n-A POSTROUTING -j LAB-XY\n-A LAB-X -s 10.0.0.0/8 -j RETURN\n-A LAB-X -j MASQUERADE\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := difference(parseNAT(test.saved), wanted, jumps); !slices.Equal(got, test.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

func TestChangedUDPPorts(t *testing.T) {
	rule := func(proto string, port uint16, pod string) string {
		return dnatRules([]lb.HostPort{{Proto: proto, Port: port, Backend: netip.MustParseAddrPort(pod)}})[0]
	}
	before := []string{rule("udp", 1, "10.0.0.2:1"), rule("udp", 2, "10.0.0.2:2"), rule("udp", 3, "10.0.0.2:3"), rule("tcp", 4, "10.0.0.2:4")}
	after := []string{rule("udp", 1, "10.0.0.2:1"), rule("udp", 2, "10.0.0.3:2"), rule("udp", 5, "10.0.0.2:5")}
	if got := changedUDPPorts(before, after); !slices.Equal(got, []uint16{2, 3, 5}) {
		t.Errorf("got %v, want 2 (moved), 3 (gone) and 5 (new)", got)
	}
}

// Both variants of iptables print our rules the way we write them, or they would be written at every
// turn.
func TestBothVariants(t *testing.T) {
	cfg := Config{PodCIDR: netip.MustParsePrefix("10.244.0.0/24"), NodeIP: netip.MustParseAddr("192.0.2.1"), Network: settings.Network{IPv4NativeRoutingCIDR: netip.MustParsePrefix("10.0.0.0/8"), EnableIPv4Masquerade: true}}
	ports := []lb.HostPort{
		{Proto: "tcp", Port: 8080, Backend: netip.MustParseAddrPort("10.244.0.2:80")},
		{Proto: "udp", Port: 53, HostIP: netip.MustParseAddr("192.0.2.1"), Backend: netip.MustParseAddrPort("10.244.0.2:53")},
	}
	for variant, backend := range map[string]string{"nft": "nf_tables", "legacy": "legacy"} {
		t.Run(variant, func(t *testing.T) {
			ns := netnstest.New(t, variant)
			dir := t.TempDir()
			for _, program := range []string{"iptables", "iptables-save", "iptables-restore"} {
				if err := os.Symlink("/usr/sbin/xtables-"+variant+"-multi", filepath.Join(dir, program)); err != nil {
					t.Fatal(err)
				}
			}
			tables := iptables{dirs: []string{dir}}
			chains := []chain{
				{masqueradeChain, masqueradeRules(cfg, []Node{{Name: "b", IP: netip.MustParseAddr("192.0.2.2")}}, &masqueradeRange)},
				{hostPortChain, dnatRules(ports)},
				{hostPortSNATChain, snatRules(ports)},
			}
			jumps := append([]jump{masqueradeJump}, hostPortJumps...)
			ns.Do(func() {
				if got, err := tables.backend(context.Background()); err != nil || got != backend {
					t.Fatalf("the variant is %q (%v), want %q", got, err, backend)
				}
				if _, err := tables.ensure(context.Background(), chains, jumps); err != nil {
					t.Fatal(err)
				}
				have, err := tables.readNAT(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				if len(have[masqueradeChain]) != 5 || len(have[hostPortChain]) != 2 {
					t.Fatalf("the rules are not there: %v", have)
				}
				if lines := difference(have, chains, jumps); lines != nil {
					t.Errorf("what was written reads otherwise; once more would be written:\n%s", strings.Join(lines, "\n"))
				}
				if err := tables.remove(context.Background(), masqueradeChain, hostPortChain, hostPortSNATChain); err != nil {
					t.Fatal(err)
				}
				have, err = tables.readNAT(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				for name, rules := range have {
					if strings.HasPrefix(name, "LAB-") || len(rules) > 0 {
						t.Errorf("%s is left with %v", name, rules)
					}
				}
			})
		})
	}
}

func TestConfigReportsEverything(t *testing.T) {
	err := Config{Network: settings.Network{EnableIPv4Masquerade: true, BPF: settings.BPF{Masquerade: true, MonitorAggregation: "some"}, MTU: 12}}.withDefaults().validate()
	if err == nil {
		t.Fatal("it was taken")
	}
	for _, part := range []string{"bpf.masquerade needs kubeProxyReplacement", "node name", "node address", "pod CIDR", "enableIPv4Masquerade needs ipv4NativeRoutingCIDR", `"some"`, "mtu: 12"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not reported: %v", part, err)
		}
	}
	if _, err := Open(context.Background(), Config{}, slog.Default()); err == nil {
		t.Error("Open takes an empty Config")
	}
}

func TestRouter(t *testing.T) {
	cfg := Config{PodCIDR: netip.MustParsePrefix("10.244.3.77/24")}
	if got := cfg.Router(); got != netip.MustParseAddr("10.244.3.1") {
		t.Errorf("the router is %s", got)
	}
	if got := cfg.withDefaults().endpointID(netip.MustParseAddr("10.244.3.9")); got != 9 {
		t.Errorf("the ID is %d", got)
	}
}

func TestVethNumber(t *testing.T) {
	name := api.HostIfName("container", "eth0")
	if !hostIfPattern.MatchString(name) {
		t.Errorf("%q", name)
	}
	number, ok := vethNumber(name)
	if !ok || vethName(number) != name {
		t.Errorf("%s is %x and back %s", name, number, vethName(number))
	}
	for _, other := range []string{"lxc", "lxcABCDEF01", "lxc0123456", "lxc012345678", "eth0"} {
		if _, ok := vethNumber(other); ok {
			t.Errorf("%s is taken for one of ours", other)
		}
	}
}

// What is read while nobody changes anything is read once.
func TestRulesAreReadOnce(t *testing.T) {
	ns := netnstest.New(t, "node")
	dir := t.TempDir()
	runs := filepath.Join(dir, "runs")
	script := "#!/bin/sh\necho >>" + runs + "\nexec /usr/sbin/iptables-save \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "iptables-save"), []byte(script), 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	ns.Run("iptables", "-t", "nat", "-A", "POSTROUTING", "-j", "ACCEPT")
	ns.Do(func() {
		have, err := (iptables{dirs: []string{dir}}).readNAT(context.Background())
		if err != nil || !slices.Equal(have["POSTROUTING"], []string{"-j ACCEPT"}) {
			t.Errorf("read %v, %v", have, err)
		}
	})
	if got, err := os.ReadFile(runs); err != nil || len(got) != 1 {
		t.Errorf("iptables-save was run %d times, %v", len(got), err)
	}
	// Each change is a generation.
	var before, after uint32
	ns.Do(func() { before, _ = rulesGeneration() })
	ns.Run("iptables", "-t", "nat", "-F")
	ns.Do(func() { after, _ = rulesGeneration() })
	if before == 0 || after <= before {
		t.Errorf("generation %d came after %d", after, before)
	}
}

// Others' rules come and go in the chain that leads to ours, while it is read and written.
func TestJumpsStayWhileOthersChange(t *testing.T) {
	ns := netnstest.New(t, "node")
	others := func(do string) string {
		var b strings.Builder
		b.WriteString("iptables-restore --noflush --wait 5 <<'END'\n*nat\n")
		for port := range 150 {
			fmt.Fprintf(&b, "%s POSTROUTING -p udp --dport %d -j ACCEPT\n", do, 1000+port)
		}
		b.WriteString("COMMIT\nEND\n")
		return b.String()
	}
	add, remove := others("-I"), others("-D")
	stop, stopped := make(chan struct{}), make(chan error)
	change := func() error {
		for {
			for _, script := range []string{add, remove} {
				if _, err := ns.TryRun("sh", "-c", script); err != nil {
					return err
				}
				select {
				case <-stop:
					return nil
				case <-time.After(20 * time.Millisecond): // a look between two changes
				}
			}
		}
	}
	chains, jumps := []chain{{masqueradeChain, []string{"-j RETURN"}}}, []jump{masqueradeJump}
	ns.Run("sh", "-c", "iptables -t nat -N "+masqueradeChain)
	for range 200 { // more than the kernel lists at once
		ns.Run("iptables", "-t", "nat", "-A", "POSTROUTING", "-p", "tcp", "-j", "ACCEPT")
	}
	go func() { stopped <- change() }()
	ns.Do(func() {
		for range 150 {
			if _, err := (iptables{}).ensure(context.Background(), chains, jumps); err != nil {
				t.Error(err)
			}
			have, err := (iptables{}).readNAT(context.Background())
			if n := len(slices.DeleteFunc(have["POSTROUTING"], func(rule string) bool { return rule != masqueradeJump.rule })); err != nil || n != 1 {
				t.Errorf("there are %d jumps to %s, %v", n, masqueradeChain, err)
			}
		}
	})
	close(stop)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}
