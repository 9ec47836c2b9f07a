package netnstest

import (
	"os"
	"slices"
	"testing"
)

// A kernel that gains or loses something that the table says changes what tests are skipped: that has to be seen.
func TestKernelsHaveWhatTheTableSays(t *testing.T) {
	RequireRoot(t)
	name := os.Getenv(KernelEnv)
	row, listed := Kernels[name]
	if name != "" && !listed {
		t.Fatalf("the table has no kernel %q", name)
	}
	for _, f := range allFeatures {
		has, err := f.probe()
		if err != nil {
			t.Errorf("probe for %s: %v", f, err)
		}
		t.Logf("%s: %v", f, has)
		if listed && has != slices.Contains(row, f) {
			t.Errorf("kernel %s has %s: %v, against the table", name, f, has)
		}
	}
}
