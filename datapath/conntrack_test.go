package datapath

import (
	"strings"
	"testing"
)

// Where programs began without the kernel's connection tracking, which has come since, it is said.
func TestUnaskedConntrack(t *testing.T) {
	d := newModel(t).d
	if !d.tracks() {
		t.Fatal("the kernel has no connection tracking although it was asked for its flows")
	}
	if why := d.Unasked(); why != "" {
		t.Errorf("programs that ask it: %s", why)
	}
	d.asksConntrack = false
	if why := d.Unasked(); !strings.Contains(why, "restart the agent") || !strings.Contains(why, "ports 49152 to 65535") {
		t.Errorf("programs that do not: %q", why)
	}
}
