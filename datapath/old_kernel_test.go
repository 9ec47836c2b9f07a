package datapath_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"wirelab.dev/wirelab/datapath"
	"wirelab.dev/wirelab/internal/netnstest"
)

// A kernel that cannot run the programs is refused in a sentence that says which can. Nobody runs the tests under one by
// accident: make test-kernels does.
func TestOldKernelsAreRefused(t *testing.T) {
	host := netnstest.NewNetwork(t).AddHost("node")
	host.Do(func() {
		d, err := datapath.Open(ctx(t), datapath.Config{
			NodeName: "node", NodeIP: host.Addr, PodCIDR: netip.MustParsePrefix("10.244.0.0/24"),
			BPFFS: host.BPFFS, CgroupRoot: netnstest.NewCgroup(t).Path,
		}, logger(t))
		if os.Getenv(netnstest.KernelEnv) == "5.10" {
			if err == nil || !strings.Contains(err.Error(), "boot kernel 5.14 or newer") {
				t.Errorf("kernel 5.10: %v", err)
			}
			return
		}
		must(t, err)
		must(t, d.Close())
	})
}
